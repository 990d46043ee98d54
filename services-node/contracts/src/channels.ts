// What a client of channels needs of the contracts and of protobuf itself, and nothing that only Node has.
export { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
export * from "../gen/hybrid/channels/v1/client_pb.js";
