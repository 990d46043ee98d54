//! Problems as gRPC-Web and Connect write them.

use super::{Body, Code, HeaderValue, Problem, Response, StatusCode, Style, header, percent_message};
use bytes::Bytes;
use http::HeaderMap;
use std::time::Duration;
use transcode::{
    Violation,
    connect::{self, Codec},
    envelope, status,
    status::Details,
};

impl Problem {
    /// The response to a caller of `style`. A request that means no method it could call gets HTTP's own answer
    /// where Connect is spoken: its clients know 404, 405 and 415, and the same answer says nothing of what exists.
    pub(super) fn rpc(&self, request_id: &HeaderValue, style: Style) -> Response<Body> {
        let no_call =
            matches!(self.code, Code::NotFound | Code::MethodNotAllowed | Code::UnsupportedMediaType);
        match style {
            Style::GrpcWeb { text } => self.grpc_web(text),
            Style::ConnectUnary if !no_call => self.connect_unary(),
            Style::ConnectStream(codec) if !no_call => self.connect_stream(codec),
            _ => self.http(request_id),
        }
    }

    /// The trailers that end a gRPC-Web call.
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        let code = self.status_code();
        trailers.insert("grpc-status", code.number().into());
        let text =
            |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        trailers.insert("grpc-message", text(percent_message(&self.detail)));
        let details = self.details();
        if details != Details::default() {
            trailers.insert("grpc-status-details-bin", text(details.to_trailer(code, &self.detail)));
        }
        trailers
    }

    /// The error that ends a Connect call.
    pub fn connect(&self) -> connect::Error {
        connect::Error::new(self.status_code(), self.detail.as_ref(), &self.details())
    }

    /// gRPC's name for a method that does not exist is another than for a thing that does not.
    fn status_code(&self) -> status::Code {
        match self.code {
            Code::NotFound => status::Code::Unimplemented,
            code => status::Code::from_number(code.grpc_status().into()),
        }
    }

    fn details(&self) -> Details {
        let violation = |error: &super::FieldError| Violation {
            field: error.field.clone(),
            description: error.description.clone(),
        };
        Details {
            violations: self.errors.iter().map(violation).collect(),
            retry_delay: self.retry_after.map(Duration::from_secs),
            ..Details::default()
        }
    }

    fn grpc_web(&self, text: bool) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = self.trailers();
        let kind = if text { "application/grpc-web-text+proto" } else { "application/grpc-web+proto" };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    fn connect_unary(&self) -> Response<Body> {
        let error = self.connect();
        let mut response = Response::new(Body::full(error.to_json()));
        *response.status_mut() = error.code.http_status();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.advise(response.headers_mut());
        response
    }

    fn connect_stream(&self, codec: Codec) -> Response<Body> {
        let end = connect::end_of_stream(Some(&self.connect()), &HeaderMap::new());
        let body: Bytes = envelope::frame(connect::END_STREAM, &end);
        let mut response = Response::new(Body::full(body));
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(codec.stream_type()));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::FieldError;

    const ID: HeaderValue = HeaderValue::from_static("req-1");

    fn style(content_type: &'static str) -> Style {
        let pairs = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
        Style::of(&pairs.into_iter().collect())
    }

    #[test]
    fn content_types_say_how_errors_are_wanted() {
        for (content_type, expected) in [
            ("application/grpc", Style::Grpc),
            ("application/grpc+proto", Style::Grpc),
            ("application/grpc-web", Style::GrpcWeb { text: false }),
            ("application/grpc-web+proto", Style::GrpcWeb { text: false }),
            ("application/grpc-web;charset=utf-8", Style::GrpcWeb { text: false }),
            ("application/grpc-web-text", Style::GrpcWeb { text: true }),
            ("application/grpc-web-text+proto", Style::GrpcWeb { text: true }),
            ("application/connect+json", Style::ConnectStream(Codec::Json)),
            ("application/connect+proto", Style::ConnectStream(Codec::Proto)),
            ("application/connect+thrift", Style::Document),
            ("application/grpc-website", Style::Document),
            ("application/json", Style::Document),
            ("application/proto", Style::Document),
        ] {
            assert_eq!(style(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn each_protocol_gets_the_problem_in_its_form() {
        let errors = vec![FieldError { field: "texts[0]".into(), description: "empty".into() }];
        let problem = Problem::new(Code::BodyTooLarge, "tö large").with_errors(errors);
        let web = problem.response(&ID, Style::GrpcWeb { text: true });
        assert_eq!((web.status().as_u16(), &web.headers()["grpc-status"]), (200, &HeaderValue::from(8)));
        assert_eq!(web.headers()["grpc-message"], "t%C3%B6 large");
        assert_eq!(web.headers()["content-type"], "application/grpc-web-text+proto");
        let details = Details::from_trailer(web.headers()["grpc-status-details-bin"].as_bytes());
        assert_eq!(details.violations[0].field, "texts[0]");
        let unary = problem.response(&ID, Style::ConnectUnary);
        assert_eq!(
            (unary.status().as_u16(), &unary.headers()["content-type"]),
            (429, &HeaderValue::from_static("application/json"))
        );
        assert_eq!(problem.connect().details[0].name, "google.rpc.BadRequest");
        let stream = problem.response(&ID, Style::ConnectStream(Codec::Json));
        assert_eq!(
            (stream.status().as_u16(), &stream.headers()["content-type"]),
            (200, &HeaderValue::from_static("application/connect+json"))
        );
    }

    #[test]
    fn what_is_no_call_is_unimplemented_or_http() {
        let nothing = Problem::new(Code::NotFound, "x");
        assert_eq!(nothing.response(&ID, Style::GrpcWeb { text: false }).headers()["grpc-status"], "12");
        for style in [Style::ConnectUnary, Style::ConnectStream(Codec::Json)] {
            let response = nothing.response(&ID, style);
            assert_eq!(response.status().as_u16(), 404);
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
    }
}
