//! The access decision, in one place for all planes: who may reach what, where no rule means nobody.

use super::{
    context::Listener,
    problem::{Code, Problem},
};
use crate::identity::{Caller, Kind};

/// How far a caller must be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nobody: no rule was stated.
    Denied,
    /// Anybody.
    Public,
    /// A user with the scopes, or a service acting for one.
    Authenticated,
    /// As above, or a service for itself.
    AuthenticatedOrService,
    /// Services of the stack, on the internal listener.
    Internal,
}

/// Who may reach a route or method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How far the caller must be known.
    pub level: Level,
    /// Scopes that an authenticated caller must hold, all of them.
    pub scopes: Vec<String>,
}

impl Rule {
    /// Decides. What nobody may reach here looks as if it did not exist.
    pub fn check(&self, listener: Listener, caller: &Caller) -> Result<(), Problem> {
        match self.level {
            Level::Public => Ok(()),
            Level::Denied => Err(Problem::new(Code::NotFound, "There is nothing at this path.")),
            Level::Internal if listener == Listener::Public => {
                Err(Problem::new(Code::NotFound, "There is nothing at this path."))
            }
            // The internal listener lets only services in; one acting for somebody (or nobody) still is one.
            Level::Internal if caller.kind == Kind::Service || caller.act.is_some() => Ok(()),
            Level::Internal => Err(Problem::new(Code::PermissionDenied, "Only services may call this.")),
            // Only the internal listener knows services.
            Level::AuthenticatedOrService if caller.kind == Kind::Service => Ok(()),
            Level::Authenticated | Level::AuthenticatedOrService => self.check_user(caller),
        }
    }

    fn check_user(&self, caller: &Caller) -> Result<(), Problem> {
        match caller.kind {
            Kind::Anonymous => Err(Problem::new(Code::Unauthenticated, "This needs an access token.")),
            Kind::Service => {
                Err(Problem::new(Code::PermissionDenied, "This needs a user, or a service acting for one."))
            }
            Kind::User if caller.has_scopes(&self.scopes) => Ok(()),
            Kind::User => {
                let detail = format!("This needs the scopes: {}.", self.scopes.join(" "));
                Err(Problem::new(Code::PermissionDenied, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::External;

    fn rule(level: Level) -> Rule {
        Rule { level, scopes: vec![] }
    }

    fn anonymous() -> std::sync::Arc<Caller> {
        External::new(&crate::config::Identity::default(), None, 1, 0).anonymous()
    }

    #[test]
    fn a_service_calls_for_itself_only_where_the_rule_says_so() {
        let caller = |kind| {
            let mut caller = std::sync::Arc::into_inner(anonymous()).unwrap();
            caller.kind = kind;
            caller
        };
        let (service, user) = (caller(Kind::Service), caller(Kind::User));
        let code = |level, caller: &Caller| {
            let rule = Rule { level, scopes: vec!["notes".into()] };
            rule.check(Listener::Internal, caller).err().map(|problem| problem.code())
        };
        assert_eq!(code(Level::Authenticated, &service), Some(Code::PermissionDenied));
        assert_eq!(code(Level::AuthenticatedOrService, &service), None);
        assert_eq!(code(Level::AuthenticatedOrService, &anonymous()), Some(Code::Unauthenticated));
        assert_eq!(code(Level::AuthenticatedOrService, &user), Some(Code::PermissionDenied));
    }

    #[test]
    fn without_a_rule_nobody_gets_in() {
        let refused = |level, listener| rule(level).check(listener, &anonymous()).unwrap_err().code();
        assert_eq!(refused(Level::Denied, Listener::Internal), Code::NotFound);
        assert_eq!(refused(Level::Internal, Listener::Public), Code::NotFound);
        assert_eq!(refused(Level::Internal, Listener::Internal), Code::PermissionDenied);
        assert_eq!(refused(Level::Authenticated, Listener::Public), Code::Unauthenticated);
        assert!(rule(Level::Public).check(Listener::Public, &anonymous()).is_ok());
    }
}
