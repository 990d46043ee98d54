// Centrifugo's library with history and recovery, for the channels' benchmarks: every client is in one channel. Says
// {"port", "control", "version"}; publishes by node.Publish as a control connection tells it to
// (xtask/src/bench/channels/backend.rs says how).
//
//	centrifuge-peer [WRITE_DELAY]    for example 2ms: how long messages for a client are collected; none is the default
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/centrifugal/centrifuge"
)

const (
	channel = "bench:all"
	size    = 256
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type peer struct {
	node   *centrifuge.Node
	number uint64
	asks   atomic.Uint64
}

func run(arguments []string) error {
	var delay time.Duration
	if len(arguments) == 1 {
		parsed, err := time.ParseDuration(arguments[0])
		if err != nil {
			return err
		}
		delay = parsed
	}
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return err
	}
	peer := &peer{node: node}
	peer.handle(delay)
	if err := node.Run(); err != nil {
		return err
	}
	clients, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ready := map[string]any{"port": port(clients), "control": port(control), "version": version()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	go peer.control(control)
	// As its documentation advises for memory: buffers of writers come from a pool.
	websocket := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{UseWriteBufferPool: true})
	return http.Serve(clients, websocket)
}

func (p *peer) handle(delay time.Duration) {
	p.node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		credentials := &centrifuge.Credentials{UserID: ""}
		return centrifuge.ConnectReply{Credentials: credentials, WriteDelay: delay}, nil
	})
	p.node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			p.asks.Add(1)
			done(centrifuge.SubscribeReply{Options: centrifuge.SubscribeOptions{EnableRecovery: true}}, nil)
		})
	})
}

// control serves one connection after the other.
func (p *peer) control(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		if err := p.orders(connection); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func (p *peer) orders(connection net.Conn) error {
	defer connection.Close()
	say := func() error {
		return json.NewEncoder(connection).Encode(map[string]uint64{"number": p.number, "asks": p.asks.Load()})
	}
	if err := say(); err != nil {
		return err
	}
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		var count, at uint64
		if _, err := fmt.Sscanf(lines.Text(), "P %d %d", &count, &at); err != nil {
			if err := say(); err != nil {
				return err
			}
			continue
		}
		for range count {
			p.number++
			if _, err := p.node.Publish(channel, message(p.number, at), centrifuge.WithHistory(300, 5*time.Minute)); err != nil {
				return err
			}
		}
	}
	return nil
}

func message(number, at uint64) []byte {
	text := fmt.Sprintf(`{"m":"#S%010dT%016d","pad":"`, number, at)
	return []byte(text + strings.Repeat("x", size-len(text)-2) + `"}`)
}

func port(listener net.Listener) int {
	return listener.Addr().(*net.TCPAddr).Port
}

func version() string {
	found := "?"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/centrifugal/centrifuge" {
				found = module.Version
			}
		}
	}
	return found + ", " + runtime.Version()
}
