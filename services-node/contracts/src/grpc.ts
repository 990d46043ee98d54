// Turns a generated service description into a typed @grpc/grpc-js client or server
// implementation: unary, server-streaming and bidirectional methods. Those whose stream of requests has one answer are
// left out; nobody here calls them.
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";

/** What accompanies one call. A deadline is required: no call may wait for ever. */
export type CallOptions = { deadline: Date; metadata?: grpc.Metadata; signal?: AbortSignal };

type Method<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options: CallOptions) => Promise<MessageShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageInitShape<I>, options: CallOptions) => AsyncIterable<MessageShape<O>>
      : M extends DescMethodBiDiStreaming<infer I, infer O>
        ? (requests: Iterable<MessageInitShape<I>>, options: CallOptions) => AsyncIterable<MessageShape<O>>
        : never;

/** The names of S's methods that are served and called here. */
type Served<S extends DescService> = {
  [K in keyof S["method"]]: Method<S["method"][K]> extends never ? never : K;
}[keyof S["method"]];

/** A client of service S: one function for each of its methods. */
export type Client<S extends DescService> = { [K in Served<S>]: Method<S["method"][K]> };

type Handler<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, call: grpc.ServerUnaryCall<unknown, unknown>) => Promise<MessageInitShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (
          request: MessageShape<I>,
          call: grpc.ServerWritableStream<unknown, unknown>,
        ) => AsyncIterable<MessageInitShape<O>>
      : M extends DescMethodBiDiStreaming<infer I, infer O>
        ? (
            requests: AsyncIterable<MessageShape<I>>,
            call: grpc.ServerDuplexStream<unknown, unknown>,
          ) => AsyncIterable<MessageInitShape<O>>
        : never;

/** An implementation of service S; a method that is left out is UNIMPLEMENTED. Throw `{ code, details }` for a status. */
export type Implementation<S extends DescService> = { [K in Served<S>]?: Handler<S["method"][K]> };

const served = (service: DescService) => service.methods.filter(({ methodKind }) => methodKind !== "client_streaming");

/** The grpc-js description of a service. */
export function serviceDefinition(service: DescService): grpc.ServiceDefinition {
  return Object.fromEntries(served(service).map((method) => [method.localName, methodDefinition(method)]));
}

/** A client that calls the service over the given channel's connection. */
export function createClient<S extends DescService>(service: S, connection: grpc.Client): Client<S> {
  return Object.fromEntries(
    served(service).map((method) => {
      const call = CALLS[method.methodKind as keyof typeof CALLS];
      return [method.localName, (request: never, options: CallOptions) => call(connection, method, request, options)];
    }),
  ) as Client<S>;
}

const CALLS = { unary: callUnary, server_streaming: callServerStreaming, bidi_streaming: callBidi };

/** Adds an implementation of the service to a grpc-js server. */
export function addService<S extends DescService>(server: grpc.Server, service: S, implementation: Implementation<S>) {
  const handlers = implementation as Record<string, (request: unknown, call: unknown) => unknown>;
  const entries: [string, grpc.UntypedHandleCall][] = [];
  for (const method of served(service)) {
    const handler = handlers[method.localName];
    if (!handler) continue;
    const unary = method.methodKind === "unary";
    const streaming = () => serveStreaming(handler, method.methodKind === "bidi_streaming");
    entries.push([method.localName, unary ? serveUnary(handler) : streaming()]);
  }
  server.addService(serviceDefinition(service), Object.fromEntries(entries));
}

/** What accompanies a stream that may stay open for good; keepalive finds out that the other side is gone. */
export type StreamOptions = { deadline?: Date; metadata?: grpc.Metadata; signal?: AbortSignal };

/** A stream in which both sides go on for as long as they like: the caller writes, reads and ends it. */
export function openStream<I extends DescMessage, O extends DescMessage>(
  connection: grpc.Client,
  method: DescMethodBiDiStreaming<I, O>,
  options: StreamOptions,
): grpc.ClientDuplexStream<MessageInitShape<I>, MessageShape<O>> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const metadata = options.metadata ?? new grpc.Metadata();
  const limits = options.deadline ? { deadline: options.deadline } : {};
  const call = connection.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata, limits);
  cancelWith(options.signal, call);
  return call as never;
}

function methodDefinition(method: DescMethod): grpc.MethodDefinition<object, object> {
  const { input, output } = method;
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: method.methodKind === "bidi_streaming",
    responseStream: method.methodKind !== "unary",
    requestSerialize: (message) => Buffer.from(toBinary(input, create(input, message as never))),
    requestDeserialize: (bytes) => fromBinary(input, bytes),
    responseSerialize: (message) => Buffer.from(toBinary(output, create(output, message as never))),
    responseDeserialize: (bytes) => fromBinary(output, bytes),
  };
}

function callUnary(connection: grpc.Client, method: DescMethod, request: object, options: CallOptions) {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  return new Promise((resolve, reject) => {
    const call = connection.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      options.metadata ?? new grpc.Metadata(),
      { deadline: options.deadline },
      (error, response) => (error ? reject(error) : resolve(response)),
    );
    cancelWith(options.signal, call);
  });
}

function callServerStreaming(connection: grpc.Client, method: DescMethod, request: object, options: CallOptions) {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const metadata = options.metadata ?? new grpc.Metadata();
  const call = connection.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, metadata, {
    deadline: options.deadline,
  });
  cancelWith(options.signal, call);
  return call;
}

/** Few requests, which are there already: they are written at once. */
function callBidi(connection: grpc.Client, method: DescMethod, requests: Iterable<object>, options: CallOptions) {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const metadata = options.metadata ?? new grpc.Metadata();
  const call = connection.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata, {
    deadline: options.deadline,
  });
  cancelWith(options.signal, call);
  for (const request of requests) call.write(request);
  call.end();
  return call;
}

function cancelWith(signal: AbortSignal | undefined, call: grpc.Call & NodeJS.EventEmitter) {
  if (!signal) return;
  const cancel = () => call.cancel();
  if (signal.aborted) return cancel();
  signal.addEventListener("abort", cancel, { once: true });
  call.once("status", () => signal.removeEventListener("abort", cancel));
}

function serveUnary(handler: (request: unknown, call: unknown) => unknown): grpc.handleUnaryCall<unknown, unknown> {
  return async (call, callback) => {
    try {
      callback(null, await handler(call.request, call));
    } catch (error) {
      callback(error as grpc.ServiceError);
    }
  };
}

function serveStreaming(
  handler: (request: unknown, call: unknown) => unknown,
  bidi: boolean,
): grpc.handleServerStreamingCall<unknown, unknown> {
  return async (call) => {
    try {
      for await (const message of handler(bidi ? call : call.request, call) as AsyncIterable<unknown>) {
        if (call.cancelled) return;
        if (!call.write(message)) await new Promise<void>((resume) => call.once("drain", resume).once("close", resume));
      }
      call.end();
    } catch (error) {
      call.emit("error", error);
    }
  };
}
