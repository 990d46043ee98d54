// The contracts of the stack, generated from /proto into ../gen by `npm run generate`.
export * from "../gen/hybrid/ai/v1/assistant_service_pb.js";
export * from "../gen/hybrid/ai/v1/forecast_service_pb.js";
export * from "../gen/hybrid/ai/v1/recommend_service_pb.js";
export * from "../gen/hybrid/ai/v1/search_service_pb.js";
export * from "../gen/hybrid/ai/v1/text_service_pb.js";
