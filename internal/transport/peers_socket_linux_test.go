package transport

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The process that is served is named, not those that wait.
func TestSocketHolders(t *testing.T) {
	t.Chdir(t.TempDir()) // a server can be bound to a relative path
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, network, bind string }{
		{"unix", "unix", filepath.Join(t.TempDir(), "s")},
		{"unix, relative", "unix", "s"},
		{"unix, long path", "unix", filepath.Join(long, "s")},
		{"unix, abstract", "unix", "@" + testID(t)},
		{"tcp", "tcp", "127.0.0.1:0"},
		{"tcp6", "tcp", "[::1]:0"},
		{"tcp, both", "tcp", "[::]:0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			bind, address := row.bind, row.bind
			if len(bind) > maxSunPath {
				dir, err := os.Open(filepath.Dir(bind))
				if err != nil {
					t.Fatal(err)
				}
				defer dir.Close()
				bind = fmt.Sprintf("/proc/self/fd/%d/s", dir.Fd())
			}
			server, err := net.Listen(row.network, bind)
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			if row.network == "tcp" {
				address = strings.Replace(server.Addr().String(), "[::]", "127.0.0.1", 1)
			} else if !strings.HasPrefix(address, "@") {
				address, _ = filepath.Abs(address)
			}
			wantHolders(t, row.network, address)
			first := startClaimer(t, testID(t), nil)
			first.want("connect <nil>", first.ask("connect "+row.network+" "+address))
			wantHolders(t, row.network, address) // nobody has taken it in
			served, err := server.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer served.Close()
			second := startClaimer(t, testID(t), nil)
			second.want("connect <nil>", second.ask("connect "+row.network+" "+address))
			own, err := dialAny(row.network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer own.Close()
			wantHolders(t, row.network, address, first.cmd.Process.Pid)
		})
	}
}

func wantHolders(t *testing.T, network, address string, pids ...int) {
	t.Helper()
	got := socketHolders(network, address)
	if len(got) != len(pids) {
		t.Fatalf("%s %s: %v, want %v", network, address, got, pids)
	}
	for i, p := range got {
		if p.PID != pids[i] || p.Name == "" {
			t.Errorf("%s %s: %v, want %v", network, address, got, pids)
		}
	}
}

func TestSocketHoldersOfNothing(t *testing.T) {
	for _, row := range [][2]string{{"unix", "/none"}, {"unix", "/dev/null"}, {"tcp", "nonsense"}, {"tcp", "localhost:0"}, {"tcp", "localhost:none"}, {"udp", "x"}} {
		wantHolders(t, row[0], row[1])
	}
}

func FuzzTCPTable(f *testing.F) {
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if table, err := os.ReadFile(path); err == nil {
			f.Add(string(table))
		}
	}
	f.Add("   0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1525 1\n")
	f.Add("   0: 0100007F: :C350 01 0 0 0 0 0 1525 1\n")
	f.Add("   0: 0000000000000000FFFF00000100007F:07E8 00000000000000000000000001000000:FFFF 01 0 0 0 0 0 1 1\n")
	f.Fuzz(func(t *testing.T, table string) {
		parseTCP(strings.NewReader(table), time.Now().Add(time.Minute), func(e ends, _ uint64) {
			if !e.local.Addr().IsValid() || !e.remote.Addr().IsValid() {
				t.Error(e)
			}
		})
	})
}

func FuzzUnixDiag(f *testing.F) {
	f.Add(unixDiagRequest())
	socket := []byte{1, 1, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // struct unix_diag_msg
		6, 0, 0, 0, 's', 0, 0, 0, 12, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 0, 2, 0, 9, 0, 0, 0}
	f.Add(append([]byte{60, 0, 0, 0, 20, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0}, socket...))
	f.Fuzz(func(t *testing.T, part []byte) {
		parseUnixDiag(part, func(s unixSocket) {
			if len(s.name) > len(part) {
				t.Error(s)
			}
		})
	})
}
