package transport

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// exchange sends a command and reads its response. After an error the
// connection is out of step.
func exchange(conn stream, cmd []byte, limit time.Duration) ([]byte, error) {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	if n := conn.pending(); n > 0 {
		came := make([]byte, min(n, headerSize))
		got, _ := conn.Read(came) // an error: then it cannot be told what came
		return came[:got], &notSent{fmt.Errorf("%d bytes came that nobody asked for: %q", n, came[:got])}
	}
	if _, err := conn.Write(cmd); err != nil {
		return nil, &notSent{fmt.Errorf("send command: %w", err)}
	}
	rsp, err := readResponse(&hastyReader{conn: conn, limit: min(limit, restLimit)})
	switch n := conn.pending(); {
	case err == nil && n > 0:
		return rsp, fmt.Errorf("%d bytes came after the response", n)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return rsp, fmt.Errorf("it hung up after %d bytes of the response: %w", len(rsp), io.ErrUnexpectedEOF)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return rsp, fmt.Errorf("no complete answer within %v: %w", limit, err)
	case err != nil:
		return rsp, fmt.Errorf("read response: %w", err)
	}
	return rsp, nil
}

// restLimit is how long the rest of a response may take after its beginning: a TPM
// thinks first, and then speaks.
const restLimit = 5 * time.Second

// A hastyReader sets a deadline once something has come.
type hastyReader struct {
	conn  stream
	limit time.Duration
	begun bool
}

func (h *hastyReader) Read(p []byte) (n int, err error) {
	n, err = h.conn.Read(p)
	if n > 0 && !h.begun {
		h.begun = true
		err = errors.Join(err, h.conn.SetDeadline(time.Now().Add(h.limit)))
	}
	return n, err
}
