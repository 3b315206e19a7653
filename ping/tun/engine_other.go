//go:build !linux

package tun

import (
	"errors"
	"runtime"

	"github.com/nametap/nametap/ping"
)

// Outputs are where results would go.
type Outputs struct {
	Sink    Sink
	Sampled func(*ping.Sample)
}

// Engine works on Linux and Android only.
type Engine struct{}

var errPlatform = errors.New("TUN interfaces are supported on Linux and Android; this is " + runtime.GOOS)

// StartWith fails.
func StartWith(int, Config, Outputs) (*Engine, error) { return nil, errPlatform }

// Stop does nothing.
func (e *Engine) Stop() {}

// Done is never closed.
func (e *Engine) Done() <-chan struct{} { return nil }

// Open fails.
func Open(string, int) (int, error) { return -1, errPlatform }
