//! The compiled contract: methods with their access rules, and the routes that lead to them.

use std::{collections::BTreeMap, collections::HashMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost_reflect::{DescriptorPool, MessageDescriptor, MethodDescriptor};

use crate::{
    Access, Codec, LoadError, TranscodeError, Unknown,
    access::AccessReader,
    binding::{Binding, Body},
    event_id::{EventIdReader, IdField},
    http_body,
    http_body::HttpBody,
    load,
    load::HttpRule,
    plan::Plans,
    request,
    router::{Found, Router},
    timeout::TimeoutReader,
};

/// A set of contracts, ready to serve. Immutable: a reload compiles a new one and swaps it.
#[derive(Debug)]
pub struct Contract {
    plans: Arc<Plans>,
    methods: Vec<Arc<Method>>,
    by_grpc_path: HashMap<String, Arc<Method>>,
    bindings: Vec<Arc<Binding>>,
    router: Router,
}

/// One RPC of a contract.
#[derive(Debug)]
pub struct Method {
    descriptor: MethodDescriptor,
    input: Codec,
    output: Codec,
    package: String,
    grpc_path: PathAndQuery,
    access: Access,
    event_id: Option<IdField>,
    resume_from: Option<IdField>,
    timeout: Option<Duration>,
}

/// An HTTP route of a contract, for listings.
#[derive(Debug)]
pub struct Route<'a> {
    /// The HTTP method.
    pub verb: &'a http::Method,
    /// The path template as the contract spells it.
    pub template: &'a str,
    /// The RPC behind it.
    pub method: &'a Arc<Method>,
}

/// What [`Contract::route`] found.
#[derive(Debug)]
pub enum Routed {
    /// A binding matches.
    Matched(Matched),
    /// The path exists under other HTTP methods (for `Allow`; `HEAD` is listed where `GET` is).
    MethodNotAllowed {
        /// The methods that exist, sorted.
        allow: Vec<http::Method>,
    },
    /// No binding has this path.
    NotFound,
}

/// A request's binding with what its path captured. Owns what it needs, so it outlives a reload.
#[derive(Debug)]
pub struct Matched {
    pub(crate) binding: Arc<Binding>,
    /// Raw (still percent-encoded) values, one for each of the binding's variables.
    pub(crate) captures: Vec<String>,
}

impl Contract {
    /// Compiles folders of `.proto` files (each folder is an import root) and descriptor sets (`.binpb`) into one contract.
    ///
    /// `google/api/*` and `hybrid/options/v1/*` need not be among them: copies are built in.
    /// `unknown` says what becomes of fields in requests that no message has.
    /// Blocking; fails on the first thing wrong, naming the file or method.
    pub fn compile(paths: &[impl AsRef<Path>], unknown: Unknown) -> Result<Self, LoadError> {
        Self::from_pool(&load::paths(paths)?, unknown)
    }

    /// Compiles `.proto` sources held in memory, keyed by import name. Unknown fields are refused.
    pub fn from_sources(files: &BTreeMap<impl AsRef<str> + Ord, impl AsRef<str>>) -> Result<Self, LoadError> {
        let files = files.iter().map(|(name, text)| (name.as_ref().to_owned(), text.as_ref().to_owned()));
        Self::from_pool(&load::sources(files.collect())?, Unknown::Refused)
    }

    /// Compiles an encoded `google.protobuf.FileDescriptorSet`. Unknown fields are refused.
    pub fn from_descriptor_set(set: &[u8]) -> Result<Self, LoadError> {
        let mut pool = DescriptorPool::new();
        load::descriptor_set(&mut pool, "descriptor set", set)?;
        Self::from_pool(&pool, Unknown::Refused)
    }

    pub(crate) fn from_pool(pool: &DescriptorPool, unknown: Unknown) -> Result<Self, LoadError> {
        let (rules, options) = (load::HttpRules::new(pool), Options::new(pool));
        let plans = Arc::new(Plans::new(pool, unknown));
        let mut contract = Self::empty(Arc::clone(&plans));
        for descriptor in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let method = Arc::new(Method::new(descriptor, &options, &plans)?);
            for rule in rules.read(&method.descriptor) {
                contract.bind(&method, rule)?;
            }
            contract.by_grpc_path.insert(method.grpc_path.as_str().to_owned(), method.clone());
            contract.methods.push(method);
        }
        Ok(contract)
    }

    fn empty(plans: Arc<Plans>) -> Self {
        Self {
            plans,
            methods: vec![],
            by_grpc_path: HashMap::new(),
            bindings: vec![],
            router: Router::default(),
        }
    }

    fn bind(&mut self, method: &Arc<Method>, rule: HttpRule) -> Result<(), LoadError> {
        let binding = Arc::new(Binding::new(method, &method.descriptor, rule)?);
        self.router.insert(&binding)?;
        self.bindings.push(binding);
        Ok(())
    }

    /// One method of this contract under other templates: for fuzzing, which cannot compile a contract for every input.
    #[doc(hidden)]
    pub fn with_get_routes(&self, method: &Arc<Method>, templates: &[&str]) -> Result<Self, LoadError> {
        let mut contract = Self::empty(Arc::clone(&self.plans));
        for template in templates {
            contract.bind(method, HttpRule::get(template))?;
        }
        Ok(contract)
    }

    /// All methods, with or without HTTP bindings.
    pub fn methods(&self) -> &[Arc<Method>] {
        &self.methods
    }

    /// All HTTP routes, in the contract's order.
    pub fn routes(&self) -> impl Iterator<Item = Route<'_>> {
        self.bindings.iter().map(|binding| Route {
            verb: &binding.verb,
            template: binding.template.text(),
            method: &binding.method,
        })
    }

    /// A message type of the contract by its full name, both ways.
    pub fn message(&self, full_name: &str) -> Option<Codec> {
        Codec::new(&self.plans, full_name)
    }

    /// What becomes of fields in requests that no message has.
    pub(crate) fn unknown(&self) -> Unknown {
        self.plans.unknown()
    }

    pub(crate) fn bindings(&self) -> &[Arc<Binding>] {
        &self.bindings
    }

    /// The method that a native gRPC call to `/package.Service/Method` means.
    pub fn method_by_grpc_path(&self, path: &str) -> Option<&Arc<Method>> {
        self.by_grpc_path.get(path)
    }

    /// Finds the binding for a request. `path` is as received, still percent-encoded and without the query.
    ///
    /// Literals win over `*`, `*` over `**`, a verb over its absence. `HEAD` uses the `GET` binding unless it has its own:
    /// the caller leaves the body out. `OPTIONS` comes back as [`Routed::MethodNotAllowed`] with what to answer.
    pub fn route(&self, verb: &http::Method, path: &str) -> Routed {
        match self.router.find(verb, path) {
            Found::Binding(binding, captures) => {
                Routed::Matched(Matched { binding: binding.clone(), captures })
            }
            Found::OtherMethods(allow) => Routed::MethodNotAllowed { allow },
            Found::Nothing => Routed::NotFound,
        }
    }
}

/// What the contract's options are read with.
struct Options {
    access: AccessReader,
    ids: EventIdReader,
    timeout: TimeoutReader,
}

impl Options {
    fn new(pool: &DescriptorPool) -> Self {
        Self {
            access: AccessReader::new(pool),
            ids: EventIdReader::new(pool),
            timeout: TimeoutReader::new(pool),
        }
    }
}

impl Method {
    fn new(descriptor: MethodDescriptor, options: &Options, plans: &Arc<Plans>) -> Result<Self, LoadError> {
        let rule = |problem| LoadError::Rule { method: load::named(&descriptor), problem };
        let codec = |message: MessageDescriptor| {
            let undefined = || rule(format!("{} is not defined", message.full_name()));
            Codec::new(plans, message.full_name()).ok_or_else(undefined)
        };
        let (input, output) = (codec(descriptor.input())?, codec(descriptor.output())?);
        let path = format!("/{}/{}", descriptor.parent_service().full_name(), descriptor.name());
        let grpc_path = path.parse().map_err(|_| rule(format!("{path} is not a valid URL path")))?;
        let package = descriptor.parent_service().package_name().to_owned();
        let event_id = options.ids.event_id(&output).map_err(rule)?;
        let resume_from = options.ids.resume_from(&input).map_err(rule)?;
        let timeout = options.timeout.read(&descriptor).map_err(rule)?;
        let access = options.access.read(&descriptor);
        Ok(Self { access, package, grpc_path, input, output, event_id, resume_from, timeout, descriptor })
    }

    pub(crate) fn descriptor(&self) -> &MethodDescriptor {
        &self.descriptor
    }

    /// With the file and line that declare it, where they are known: for messages to people.
    pub fn place(&self) -> String {
        load::named(&self.descriptor)
    }

    /// `hybrid.ai.v1.TextService.Embed`
    pub fn full_name(&self) -> &str {
        self.descriptor.full_name()
    }

    /// `Embed`
    pub fn name(&self) -> &str {
        self.descriptor.name()
    }

    /// `hybrid.ai.v1`: what the configuration maps to an upstream.
    pub fn package(&self) -> &str {
        &self.package
    }

    /// `/hybrid.ai.v1.TextService/Embed`: the `:path` of the gRPC call.
    pub fn grpc_path(&self) -> &PathAndQuery {
        &self.grpc_path
    }

    /// Who may call it.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The longest that a call may take, where the contract says it of this method.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether the client sends a stream of messages.
    pub fn is_client_streaming(&self) -> bool {
        self.descriptor.is_client_streaming()
    }

    /// Whether the server answers with a stream of messages.
    pub fn is_server_streaming(&self) -> bool {
        self.descriptor.is_server_streaming()
    }

    /// Whether the contract says `idempotency_level = NO_SIDE_EFFECTS`: such a method may be called by `GET`.
    pub fn has_no_side_effects(&self) -> bool {
        const NO_SIDE_EFFECTS: i32 = 1;
        self.descriptor
            .method_descriptor_proto()
            .options
            .as_ref()
            .and_then(|options| options.idempotency_level)
            == Some(NO_SIDE_EFFECTS)
    }

    /// The request message, both ways.
    pub fn input(&self) -> &Codec {
        &self.input
    }

    /// The response message, both ways.
    pub fn output(&self) -> &Codec {
        &self.output
    }

    /// Reads a JSON document as the method's request message, with no HTTP binding: every field is in the document.
    /// As strict as [`Matched::encode_request`]. Empty stands for `{}`.
    pub fn request_from_json(&self, json: &[u8]) -> Result<Vec<u8>, TranscodeError> {
        if json.is_empty() { Ok(vec![]) } else { self.input.from_json(json, self.input.plans().unknown()) }
    }

    /// Appends a response message as JSON. On failure `out` is as it was.
    pub fn response_to_json(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        self.output.to_json(message, out)
    }
}

impl Matched {
    /// The RPC to call.
    pub fn method(&self) -> &Arc<Method> {
        &self.binding.method
    }

    /// The template that matched, as the contract spells it: a label of bounded cardinality for metrics.
    pub fn template(&self) -> &str {
        self.binding.template.text()
    }

    /// Whether the binding reads the HTTP body at all. Where it does not, a body is an error.
    pub fn takes_body(&self) -> bool {
        !matches!(self.binding.body, Body::None)
    }

    /// Builds the protobuf request from the captures, the query string (without `?`) and the body.
    ///
    /// Strict: unknown fields and parameters (unless the contract was compiled to ignore them), wrong types, duplicate
    /// keys and data after the JSON are errors, and all of them are reported, up to a bound. An empty body stands for `{}`.
    pub fn encode_request(&self, query: Option<&str>, body: &[u8]) -> Result<Vec<u8>, TranscodeError> {
        request::encode(&self.binding, &self.captures, query, body)
    }

    /// Turns one protobuf response into proto3 JSON: lowerCamelCase names, 64-bit integers as strings, bytes as base64.
    ///
    /// Fields with their default value are left out, as the protobuf JSON mapping prescribes: what arrives here means
    /// the same to every protobuf client. With `response_body` the named field alone is the document, default or not.
    pub fn decode_response(&self, message: &[u8]) -> Result<Vec<u8>, TranscodeError> {
        let mut json = Vec::with_capacity(message.len() * 2 + 64);
        self.append_response(message, &mut json).map(|()| json)
    }

    /// [`Self::decode_response`], appended to what is there: for streams. On failure `out` is as it was.
    pub fn append_response(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        let compiled = &self.binding.compiled;
        compiled.output.append(compiled.response_body, message, out)
    }

    /// Appends the id that the response's marked field gives it, as one line's text; false where it has none.
    pub fn append_event_id(&self, message: &[u8], out: &mut Vec<u8>) -> bool {
        self.method().event_id.as_ref().is_some_and(|field| field.append(message, out))
    }

    /// Sets the request's marked field, if there is one and the client left it out, to where its stream broke off.
    pub fn resume(&self, message: &mut Vec<u8>, last_event_id: &str) -> Result<(), TranscodeError> {
        self.method().resume_from.as_ref().map_or(Ok(()), |field| field.resume(message, last_event_id))
    }

    /// Builds a later message of a request stream: from the body alone. Path and query are in the first message, which
    /// [`Self::encode_request`] builds.
    pub fn encode_next(&self, body: &[u8]) -> Result<Vec<u8>, TranscodeError> {
        request::encode_next(&self.binding, body)
    }

    /// Whether the HTTP body is not JSON but the content of a `google.api.HttpBody`: any type, any bytes.
    pub fn takes_http_body(&self) -> bool {
        let body = match &self.binding.body {
            Body::None => None,
            Body::Message => Some(self.binding.input.clone()),
            Body::Field(field) => field.kind().as_message().filter(|_| !field.is_list()).cloned(),
        };
        body.is_some_and(|message| http_body::is(&message))
    }

    /// Whether the answer is the content of a `google.api.HttpBody`, to be sent as it is.
    pub fn answers_http_body(&self) -> bool {
        let body = match &self.binding.response_body {
            None => Some(self.binding.output.clone()),
            Some(field) => field.kind().as_message().filter(|_| !field.is_list()).cloned(),
        };
        body.is_some_and(|message| http_body::is(&message))
    }

    /// Builds the request from the captures, the query and raw content, where [`Self::takes_http_body`].
    pub fn encode_http_body(
        &self,
        query: Option<&str>,
        content: &HttpBody,
    ) -> Result<Vec<u8>, TranscodeError> {
        let mut message = request::encode(&self.binding, &self.captures, query, b"")?;
        http_body::append(&self.binding, content, &mut message);
        Ok(message)
    }

    /// Builds a later message of a request stream of raw content.
    pub fn encode_next_http_body(&self, content: &HttpBody) -> Vec<u8> {
        let mut message = vec![];
        http_body::append(&self.binding, content, &mut message);
        message
    }

    /// Takes the raw content out of a response, where [`Self::answers_http_body`]. The data is a slice of the message.
    pub fn decode_http_body(&self, message: &Bytes) -> Result<HttpBody, TranscodeError> {
        http_body::take(&self.binding, message)
    }
}
