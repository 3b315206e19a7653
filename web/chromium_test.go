package web

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// chromium is a real browser without a window, spoken to in the DevTools
// protocol over a pair of pipes: messages are JSON, each ended by a NUL.
type chromium struct {
	t       *testing.T
	to      io.Writer
	from    <-chan message
	next    int
	session string
	log     []string // what the page's console, the policy and the network say
	loaded  int
}

type message struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// browser starts one, with an empty page; it ends with the test.
func browser(t *testing.T) *chromium {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes some seconds")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed (Debian: apt-get install chromium)")
	}
	in, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe")
	cmd.ExtraFiles = []*os.File{in, out}
	if err := cmd.Start(); err != nil {
		t.Skipf("chromium does not start: %v", err)
	}
	_, _ = in.Close(), out.Close()
	replies := make(chan message, 1024)
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(replies)
		for r := bufio.NewReaderSize(from, 1<<20); ; {
			text, err := r.ReadBytes(0)
			if err != nil {
				return
			}
			var m message
			if json.Unmarshal(text[:len(text)-1], &m) == nil {
				replies <- m
			}
		}
	}()
	c := &chromium{t: t, to: to, from: replies}
	t.Cleanup(func() {
		c.send("Browser.close", nil)
		go func() {
			for range replies { // until it is gone
			}
		}()
		late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		late.Stop()
		_, _ = to.Close(), from.Close()
		<-read
	})
	var target struct{ TargetID string }
	c.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	c.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	c.session = session.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		c.call(domain+".enable", nil, nil)
	}
	return c
}

func (c *chromium) send(method string, params any) int {
	c.next++
	m := map[string]any{"id": c.next, "method": method}
	if params != nil {
		m["params"] = params
	}
	if c.session != "" && method != "Browser.close" {
		m["sessionId"] = c.session
	}
	b, err := json.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	_, _ = c.to.Write(append(b, 0)) // if it is gone, the wait for its answer says so
	return c.next
}

// call waits for the answer, which must be a good one.
func (c *chromium) call(method string, params, result any) {
	c.t.Helper()
	if problem := c.try(method, params, result); problem != "" {
		c.t.Fatalf("chromium: %s: %s", method, problem)
	}
}

// try waits for the answer, and returns what went wrong.
func (c *chromium) try(method string, params, result any) (problem string) {
	c.t.Helper()
	id := c.send(method, params)
	for late := time.After(patience); ; {
		m, ok := c.receive(late)
		if !ok {
			c.t.Fatalf("chromium: no answer to %s", method)
		}
		if m.ID != id {
			continue
		}
		if m.Error != nil {
			return m.Error.Message
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				c.t.Fatal(err)
			}
		}
		return ""
	}
}

// receive takes the next message, and notes what goes wrong in the page.
func (c *chromium) receive(late <-chan time.Time) (message, bool) {
	select {
	case m, ok := <-c.from:
		switch m.Method {
		case "Page.loadEventFired":
			c.loaded++
		case "Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled":
			c.log = append(c.log, fmt.Sprintf("%s %s", m.Method, m.Params))
		}
		return m, ok
	case <-late:
		return message{}, false
	}
}

// open goes to the address and waits until the page is loaded.
func (c *chromium) open(url string) {
	c.t.Helper()
	before := c.loaded
	c.call("Page.navigate", map[string]any{"url": url}, nil)
	for late := time.After(patience); c.loaded == before; {
		if _, ok := c.receive(late); !ok {
			c.t.Fatalf("chromium: %s does not load", url)
		}
	}
}

// document returns the page as it is now, or nothing while it is being replaced.
func (c *chromium) document() string {
	c.t.Helper()
	var root struct{ Root struct{ NodeID int } }
	var outer struct{ OuterHTML string }
	if c.try("DOM.getDocument", nil, &root) != "" ||
		c.try("DOM.getOuterHTML", map[string]any{"nodeId": root.Root.NodeID}, &outer) != "" {
		return ""
	}
	return outer.OuterHTML
}

// await waits until the page has the text.
func (c *chromium) await(text string) string {
	c.t.Helper()
	for end := time.Now().Add(patience); ; {
		page := c.document()
		if strings.Contains(page, text) {
			return page
		}
		if time.Now().After(end) {
			c.t.Fatalf("chromium: %q does not appear", text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// evaluate returns the value of an expression, as text.
func (c *chromium) evaluate(expression string) string {
	c.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails any
	}
	c.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		c.t.Fatalf("chromium: %s: %v", expression, r.ExceptionDetails)
	}
	return fmt.Sprint(r.Result.Value)
}

// awaitValue waits until the expression has the value.
func (c *chromium) awaitValue(expression, want string) {
	c.t.Helper()
	for end := time.Now().Add(patience); ; {
		got := c.evaluate(expression)
		if got == want {
			return
		}
		if time.Now().After(end) {
			c.t.Fatalf("chromium: %s stays %q, want %q", expression, got, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// look sets the width of the window and the scheme, light or dark.
func (c *chromium) look(width int, scheme string) {
	c.t.Helper()
	c.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	c.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// picture returns the whole page as PNG.
func (c *chromium) picture() []byte {
	c.t.Helper()
	var shot struct{ Data string }
	c.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	b, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}
