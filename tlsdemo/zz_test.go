package main
import ("testing";"os/exec";"crypto/tls";"net/http";"os";"io")
func TestZZ(t *testing.T){
	r := newRig(t, "maclef", nil)
	p := r.start()
	for range 57 { p.get() }
	c:=p.client(); c.Transport.(*http.Transport).TLSClientConfig.ClientSessionCache=tls.NewLRUClientSessionCache(1)
	for range 9 { rs,_:=c.Get("https://"+p.addr+"/"); io.ReadAll(rs.Body); rs.Body.Close(); c.CloseIdleConnections() }
	rq,_:=http.NewRequest("GET","https://"+p.addr+"/",nil); rq.Header.Set("Accept","text/html"); rs,_:=c.Do(rq); by,_:=io.ReadAll(rs.Body); os.WriteFile("/tmp/resumed.html",by,0o644)
	ff,_:=exec.LookPath("firefox-esr")
	p.photograph(ff,"/tmp/light.png","1000,1420",firstRun)
	p.photograph(ff,"/tmp/phone.png","390,1800",firstRun)
	p.photograph(ff,"/tmp/dark.png","1000,1420",firstRun+"user_pref(\"ui.systemUsesDarkTheme\", 1);\nuser_pref(\"layout.css.prefers-color-scheme.content-override\", 0);\n")
}
