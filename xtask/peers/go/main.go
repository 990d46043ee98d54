// Gateways of two Go libraries, for the benchmarks to compare with: JSON in, one gRPC call, JSON out, and nothing else;
// no token is verified and nothing is counted.
//
//	gopeers LIBRARY HOST:PORT    serves in front of that gRPC upstream until killed; says the port it listens on
//
// LIBRARY is grpc-gateway or vanguard-go.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 2 {
		return fmt.Errorf("expected a library and the upstream's HOST:PORT, found %q", arguments)
	}
	handler, err := handler(arguments[0], arguments[1])
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ready := map[string]int{"port": listener.Addr().(*net.TCPAddr).Port}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: handler, Protocols: protocols}
	return server.Serve(listener)
}

func handler(library, upstream string) (http.Handler, error) {
	switch library {
	case "grpc-gateway":
		return grpcGateway(upstream)
	case "vanguard-go":
		return vanguardGo(upstream)
	default:
		return nil, fmt.Errorf("expected grpc-gateway or vanguard-go, found %q", library)
	}
}
