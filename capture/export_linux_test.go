package capture

import (
	"testing"

	"github.com/nametap/nametap/capture/xdp"
)

// What the tests of package capture_test use as well.
var (
	InNamespace = inNamespace
	Veth        = veth
	LoadFrames  = loadFrames
	SendPaced   = sendPaced
	LostBefore  = lostBefore
)

// Injected is how many connections injected frames have.
const Injected = injected

// Connect waits until an interface delivers to the source.
func Connect(t *testing.T, s Source, far string) {
	t.Helper()
	connect(t, s, 0, far)
}

// InjectFrames makes frames as if the interface had received them.
func InjectFrames(t *testing.T, name string, frame []byte, n int) int {
	t.Helper()
	return injectXDP(t, name, xdpPass, frame, n)
}

// TransmitFrames has the interface send frames, from its receive path on: a pair's
// other end gets them as an XDP program may take them.
func TransmitFrames(t *testing.T, name string, frame []byte, n int) int {
	t.Helper()
	return injectXDP(t, name, xdpTx, frame, n)
}

// OpenNativeXDP opens an AF_XDP source.
func OpenNativeXDP(t *testing.T, name string) Source {
	t.Helper()
	return openXDPTest(t, xdp.Native, 0, name)
}
