// A gateway of grpc-gateway's generated code, for the benchmarks to compare with: JSON in, one gRPC call, JSON out, and
// nothing else; no token is verified and nothing is counted.
//
//	gopeers HOST:PORT    serves in front of that gRPC upstream until killed; says the port it listens on
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	"gopeers/gen/bench"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) != 1 {
		return fmt.Errorf("expected the upstream's HOST:PORT alone, found %q", arguments)
	}
	// One connection for all calls is grpc-go's way; it keeps it open and shares it.
	upstream, err := grpc.NewClient(arguments[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer upstream.Close()
	handler, err := handler(upstream)
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

// The generated routes. JSON is written as the gateway beside it writes it: without the fields that have no value,
// which also is less work than grpc-gateway's default.
func handler(upstream *grpc.ClientConn) (http.Handler, error) {
	mux := runtime.NewServeMux(runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: false},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
	}))
	return mux, bench.RegisterBenchHandler(context.Background(), mux, upstream)
}
