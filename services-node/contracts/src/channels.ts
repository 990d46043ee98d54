// The contracts of channels: what clients, the gateway and the application say to each other. Apart from the others,
// because some of their names (Error, Call) are common ones.
export * from "../gen/hybrid/channels/v1/client_pb.js";
export * from "../gen/hybrid/channels/v1/link_pb.js";
