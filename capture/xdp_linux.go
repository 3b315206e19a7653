package capture

import "errors"

// xsk is an AF_XDP socket.
type xsk struct{}

func openXDP(LiveConfig) (Source, error) {
	return nil, errors.New("capture mode xdp is not ready yet: leave the mode out")
}
