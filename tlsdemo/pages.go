package main

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed icon.svg
var icon []byte

// page is what page.html shows.
type page struct {
	*report
	Chart *chart
	Style template.CSS
	Host  string // from the request
}

var pageTemplate = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"ms":    milliseconds,
	"split": strings.Split,
}).Parse(pageHTML))

// policy returns the Content-Security-Policy: it allows the page's own style only.
func policy() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// handler answers requests, and logs them.
func (s *server) handler() http.Handler {
	policy := policy()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := s.answerInTurn(r)
		if !ok {
			return
		}
		c := connOfRequest(r)
		c.unanswered.Store(0)
		h := w.Header()
		h.Set("Content-Type", answer.mediaType)
		h.Set("Content-Length", strconv.Itoa(len(answer.body)))
		h.Set("Cache-Control", "no-store")
		h.Set("Vary", "Accept")
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if c.identity != s.identity() {
			h.Set("Connection", "close")
		}
		if answer.status == http.StatusMethodNotAllowed {
			h.Set("Allow", "GET, HEAD")
		}
		s.logRequest(r, answer.status)
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.limits.write))
		w.WriteHeader(answer.status)
		w.Write(answer.body) // fails if the client has gone, or does not read in time
	})
}

// answerInTurn makes as many pages at a time as there are processors: a flood of requests
// then takes less memory, and handshakes go on. It returns false for a request that the
// client has reset.
func (s *server) answerInTurn(r *http.Request) (answer, bool) {
	s.making <- struct{}{}
	defer func() { <-s.making }()
	if r.Context().Err() != nil {
		return answer{}, false
	}
	return s.answer(r), true
}

type answer struct {
	status    int
	mediaType string
	body      []byte
}

const plainText = "text/plain; charset=utf-8"

func (s *server) answer(r *http.Request) answer {
	if !s.admits(r) {
		return answer{http.StatusForbidden, plainText, []byte("The certificate of this client is not accepted any more.\n")}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return answer{http.StatusMethodNotAllowed, plainText, []byte("This server only has pages to read: GET and HEAD.\n")}
	}
	switch r.URL.Path {
	case "/":
		if wantsHTML(r.Header.Values("Accept")) {
			return s.html(r)
		}
		return answer{http.StatusOK, plainText, []byte(s.report(r).text())}
	case "/status":
		return s.json(r)
	case "/favicon.ico":
		return answer{http.StatusOK, "image/svg+xml", icon}
	}
	return answer{http.StatusNotFound, plainText, []byte("There is no such page here; there are / and /status.\n")}
}

func (s *server) html(r *http.Request) answer {
	rep := s.report(r)
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, page{rep, newChart(rep), template.CSS(pageCSS), r.Host}); err != nil {
		return s.broken(err)
	}
	return answer{http.StatusOK, "text/html; charset=utf-8", b.Bytes()}
}

func (s *server) json(r *http.Request) answer {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s.report(r)); err != nil {
		return s.broken(err)
	}
	return answer{http.StatusOK, "application/json", b.Bytes()}
}

func (s *server) broken(err error) answer {
	s.log.limitedf("make a page: %v", err)
	return answer{http.StatusInternalServerError, plainText, []byte("The page could not be made.\n")}
}

// wantsHTML reports whether a client names HTML in its Accept header, as
// browsers do and curl does not.
func wantsHTML(accept []string) bool {
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil || kind != "text/html" && kind != "application/xhtml+xml" {
			continue
		}
		if q, err := strconv.ParseFloat(params["q"], 64); err != nil || q > 0 {
			return true
		}
	}
	return false
}

// logRequest logs one request.
func (s *server) logRequest(r *http.Request, status int) {
	c := connectionOf(r)
	signature := "resumed -"
	if !c.Resumed {
		signature = c.Signature + " " + milliseconds(connOfRequest(r).sample.took)
	}
	agent := `"` + strings.ReplaceAll(shortText(r.UserAgent(), 200), `"`, "'") + `"`
	path := strings.ReplaceAll(shortText(r.URL.EscapedPath(), 200), " ", "%20")
	s.log.printf("%s %s %s %d %s %s %s %s", r.RemoteAddr,
		shortText(r.Method, 20), path, status, c.TLS, c.Cipher, signature, agent)
}
