//! From files to a descriptor pool, and the `google.api.http` rules in it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ExtensionDescriptor, MethodDescriptor};
use protox::{
    Compiler,
    file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver},
};

use crate::LoadError;

/// The annotations' own files, so that a team's folder needs no copy of them.
const BUNDLED: [(&str, &str); 6] = [
    ("google/api/annotations.proto", include_str!("../../../../proto/google/api/annotations.proto")),
    ("google/api/http.proto", include_str!("../../../../proto/google/api/http.proto")),
    ("google/api/httpbody.proto", include_str!("../../../../proto/google/api/httpbody.proto")),
    ("hybrid/options/v1/access.proto", include_str!("../../../../proto/hybrid/options/v1/access.proto")),
    ("hybrid/options/v1/stream.proto", include_str!("../../../../proto/hybrid/options/v1/stream.proto")),
    ("hybrid/options/v1/timeout.proto", include_str!("../../../../proto/hybrid/options/v1/timeout.proto")),
];

/// Compiles folders and descriptor sets into one pool.
pub(crate) fn paths(paths: &[impl AsRef<Path>]) -> Result<DescriptorPool, LoadError> {
    let (mut folders, mut sets) = (vec![], vec![]);
    for path in paths.iter().map(AsRef::as_ref) {
        let kind = fs::metadata(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension {
            _ if kind.is_dir() => folders.push(path),
            Some("binpb" | "pb" | "bin" | "desc") => sets.push(path),
            _ => return Err(LoadError::UnknownKind { path: path.to_owned() }),
        }
    }
    let mut pool = compile_folders(&folders)?;
    for path in sets {
        let bytes = fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        descriptor_set(&mut pool, &path.display().to_string(), &bytes)?;
    }
    Ok(pool)
}

/// Compiles sources held in memory.
pub(crate) fn sources(files: BTreeMap<String, String>) -> Result<DescriptorPool, LoadError> {
    let names: Vec<String> = files.keys().cloned().collect();
    let mut resolver = ChainFileResolver::new();
    resolver.add(InMemory(files));
    compile(resolver, &names)
}

/// Adds an encoded `FileDescriptorSet` to a pool.
pub(crate) fn descriptor_set(pool: &mut DescriptorPool, origin: &str, set: &[u8]) -> Result<(), LoadError> {
    let invalid = |error: &dyn std::fmt::Display| LoadError::Compile {
        origin: origin.to_owned(),
        message: error.to_string(),
    };
    // prost-reflect panics on editions, so they are found with a decoder that knows only these fields.
    let headers = FileHeaders::decode(set).map_err(|error| invalid(&error))?;
    if let Some(file) = headers.file.into_iter().find(|file| file.syntax == "editions" || file.edition != 0) {
        return Err(LoadError::Editions { origin: origin.to_owned(), file: file.name });
    }
    pool.decode_file_descriptor_set(set).map_err(|error| invalid(&error))
}

#[derive(Clone, PartialEq, Message)]
struct FileHeaders {
    #[prost(message, repeated, tag = "1")]
    file: Vec<FileHeader>,
}

#[derive(Clone, PartialEq, Message)]
struct FileHeader {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "12")]
    syntax: String,
    #[prost(int32, tag = "14")]
    edition: i32,
}

fn compile_folders(folders: &[&Path]) -> Result<DescriptorPool, LoadError> {
    let mut resolver = ChainFileResolver::new();
    let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in folders {
        resolver.add(IncludeFileResolver::new((*folder).to_owned()));
        let mut files = vec![];
        collect(folder, &mut files)?;
        for file in files {
            let name = import_name(folder, &file);
            if let Some(first) = seen.get(&name) {
                same_text(first, &file)?;
            } else {
                seen.insert(name, file);
            }
        }
    }
    compile(resolver, &seen.into_keys().collect::<Vec<_>>())
}

fn compile(mut resolver: ChainFileResolver, names: &[String]) -> Result<DescriptorPool, LoadError> {
    let bundled = BUNDLED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    resolver.add(InMemory(bundled.collect()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    for name in names {
        compiler.open_file(name).map_err(|error| LoadError::Compile {
            origin: error.file().map_or_else(|| name.clone(), str::to_owned),
            message: error.to_string(),
        })?;
    }
    Ok(compiler.descriptor_pool())
}

/// All `.proto` files below a folder. Hidden ones are left out: Kubernetes keeps a volume's older copies there.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    let read = |source| LoadError::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

fn import_name(folder: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(folder).unwrap_or(file);
    let parts = relative.components().map(|part| part.as_os_str().to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}

/// Two folders may both hold a file, such as google/api/http.proto, but not two versions of it.
fn same_text(first: &Path, second: &Path) -> Result<(), LoadError> {
    let read =
        |path: &Path| fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source });
    if read(first)? == read(second)? {
        return Ok(());
    }
    Err(LoadError::Compile {
        origin: second.display().to_string(),
        message: format!("differs from {}, which has the same import name", first.display()),
    })
}

/// A method as an error names it: with its file and line, where the descriptors say them.
pub(crate) fn named(method: &MethodDescriptor) -> String {
    let file = method.parent_file();
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let place = info.and_then(|info| info.location.iter().find(|location| location.path == method.path()));
    match place.and_then(|place| place.span.first()) {
        Some(line) => format!("{}:{}: {}", file.name(), line + 1, method.full_name()),
        None => method.full_name().to_owned(),
    }
}

struct InMemory(BTreeMap<String, String>);

impl FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let text = self.0.get(name).ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, text)
    }
}

/// Reads `google.api.http`; made once for a pool.
pub(crate) struct HttpRules(Option<ExtensionDescriptor>);

/// One binding as the contract states it, not yet checked.
pub(crate) struct HttpRule {
    /// HTTP method and template; absent if the contract states none.
    pub(crate) pattern: Option<(String, String)>,
    pub(crate) body: String,
    pub(crate) response_body: String,
    /// An additional binding that has additional bindings itself.
    pub(crate) nested: bool,
}

impl HttpRules {
    pub(crate) fn new(pool: &DescriptorPool) -> Self {
        Self(pool.get_extension_by_name("google.api.http"))
    }

    /// The method's binding followed by its additional ones.
    pub(crate) fn read(&self, method: &MethodDescriptor) -> Vec<HttpRule> {
        let Some(extension) = &self.0 else { return vec![] };
        let options = method.options();
        if !options.has_extension(extension) {
            return vec![];
        }
        let value = options.get_extension(extension);
        let Some(rule) = value.as_message() else { return vec![] };
        let additional = additional_bindings(rule);
        let mut rules = vec![HttpRule { nested: false, ..HttpRule::new(rule) }];
        rules.extend(additional.iter().map(HttpRule::new));
        rules
    }
}

impl HttpRule {
    fn new(rule: &DynamicMessage) -> Self {
        let text = |message: &DynamicMessage, name| {
            let value = message.get_field_by_name(name);
            value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
        };
        let plain = ["get", "put", "post", "delete", "patch"].into_iter();
        let plain = plain.filter(|kind| rule.has_field_by_name(kind));
        let mut pattern = plain.map(|kind| (kind.to_uppercase(), text(rule, kind))).next();
        if rule.has_field_by_name("custom") {
            let custom = rule.get_field_by_name("custom");
            let custom = custom.as_ref().and_then(|custom| custom.as_message());
            pattern = custom.map(|custom| (text(custom, "kind"), text(custom, "path")));
        }
        let nested = !additional_bindings(rule).is_empty();
        Self { pattern, body: text(rule, "body"), response_body: text(rule, "response_body"), nested }
    }

    /// A `GET` without more.
    pub(crate) fn get(template: &str) -> Self {
        let pattern = Some(("GET".to_owned(), template.to_owned()));
        Self { pattern, body: String::new(), response_body: String::new(), nested: false }
    }
}

fn additional_bindings(rule: &DynamicMessage) -> Vec<DynamicMessage> {
    let list = rule.get_field_by_name("additional_bindings");
    let values = list.as_ref().and_then(|list| list.as_list()).unwrap_or_default();
    values.iter().filter_map(|value| value.as_message().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Contract, Unknown};

    #[test]
    fn the_projects_contracts_compile_from_their_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../proto");
        let contract = Contract::compile(&[&folder, &folder], Unknown::Refused).unwrap();
        let routes: Vec<String> =
            contract.routes().map(|route| format!("{} {}", route.verb, route.template)).collect();
        assert!(routes.contains(&"POST /v1/text:embed".to_owned()), "{routes:?}");
        assert!(contract.method_by_grpc_path("/hybrid.ai.v1.TextService/Embed").is_some());
    }

    #[test]
    fn a_missing_path_and_an_unknown_kind_are_named() {
        let error = Contract::compile(&["/nowhere/at/all"], Unknown::Refused).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all"), "{error}");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let error = Contract::compile(&[file], Unknown::Refused).unwrap_err().to_string();
        assert!(error.contains("expected a folder of .proto files or a descriptor set"), "{error}");
    }

    #[test]
    fn a_syntax_error_names_the_file() {
        let sources = BTreeMap::from([("bad.proto", "syntax = \"proto3\"; message {")]);
        let error = Contract::from_sources(&sources).unwrap_err().to_string();
        assert!(error.starts_with("bad.proto: "), "{error}");
    }

    #[test]
    fn a_descriptor_set_serves_like_its_sources() {
        let text = "syntax = \"proto3\"; package t; import \"google/api/annotations.proto\";
            service S { rpc M(In) returns (In) { option (google.api.http) = {get: \"/v1/{a}\"}; } }
            message In { string a = 1; }";
        let pool = sources(BTreeMap::from([("t.proto".to_owned(), text.to_owned())])).unwrap();
        let contract = Contract::from_descriptor_set(&pool.encode_to_vec()).unwrap();
        assert_eq!(contract.routes().next().unwrap().template, "/v1/{a}");
    }

    #[test]
    fn editions_are_refused_by_name_before_they_are_decoded() {
        let file = FileHeader { name: "new.proto".into(), syntax: "editions".into(), edition: 1000 };
        let set = FileHeaders { file: vec![file] }.encode_to_vec();
        let error = Contract::from_descriptor_set(&set).unwrap_err();
        assert!(matches!(&error, LoadError::Editions { file, .. } if file == "new.proto"), "{error}");
        assert!(Contract::from_descriptor_set(b"\xff\xff").is_err());
    }
}
