// The lab's services, from the descriptor set that the test wrote; and a way for every client to read messages.
import { createFileRegistry, create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { readFileSync } from "node:fs";

const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(process.argv[3])));

export const url = process.argv[2];
export const token = process.argv[4];
export const Lab = registry.getService("lab.v1.LabService");
export const Wire = registry.getService("lab.v1.WireService");
export const Sample = registry.getMessage("lab.v1.Sample");

export const sample = (text, number = 0) => create(Sample, { text, number });
export const encode = (message) => Buffer.from(toBinary(Sample, message));
export const decode = (bytes) => fromBinary(Sample, new Uint8Array(bytes));
