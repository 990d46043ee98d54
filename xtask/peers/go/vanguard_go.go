// vanguard-go: its transcoder around a reverse proxy, which is how its documents put it before a remote gRPC server.
package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"connectrpc.com/vanguard"

	"gopeers/gen/bench"
)

func vanguardGo(upstream string) (http.Handler, error) {
	service := vanguard.NewService(
		bench.Bench_ServiceDesc.ServiceName,
		proxy(&url.URL{Scheme: "http", Host: upstream}),
		vanguard.WithTargetProtocols(vanguard.ProtocolGRPC),
		vanguard.WithTargetCodecs(vanguard.CodecProto),
		vanguard.WithNoTargetCompression(),
	)
	// JSON is written as the gateway beside it writes it: without the fields that have no value, which also is less
	// work than vanguard-go's default.
	json := func(types vanguard.TypeResolver) vanguard.Codec {
		codec := vanguard.NewJSONCodec(types)
		codec.MarshalOptions.EmitUnpopulated = false
		return codec
	}
	return vanguard.NewTranscoder([]*vanguard.Service{service}, vanguard.WithCodec(json))
}

// A proxy that speaks nothing but HTTP/2 without TLS: one connection, kept open, for all calls.
func proxy(upstream *url.URL) http.Handler {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &httputil.ReverseProxy{
		Rewrite:    func(request *httputil.ProxyRequest) { request.SetURL(upstream) },
		Transport:  &http.Transport{Protocols: protocols, DisableCompression: true},
		BufferPool: &buffers{},
		ErrorLog:   log.New(io.Discard, "", 0),
	}
}

// Buffers that the proxy copies answers with. Without them it allocates 32 KiB for each call.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[]byte); ok {
		return *buffer
	}
	return make([]byte, 32*1024)
}

func (b *buffers) Put(buffer []byte) { b.pool.Put(&buffer) }
