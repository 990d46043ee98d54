// grpc-gateway: its generated routes in front of a grpc-go client.
package main

import (
	"context"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	"gopeers/gen/bench"
)

func grpcGateway(upstream string) (http.Handler, error) {
	// One connection for all calls is grpc-go's way; it keeps it open and shares it.
	client, err := grpc.NewClient(upstream, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	// JSON is written as the gateway beside it writes it: without the fields that have no value, which also is less
	// work than grpc-gateway's default.
	mux := runtime.NewServeMux(runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: false},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
	}))
	return mux, bench.RegisterBenchHandler(context.Background(), mux, client)
}
