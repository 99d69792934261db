//! Users by tokens from a file (`--token-auth-file`): lines of token, user, uid and, quoted, groups with commas between. Must
//! never tell a token in an error.

use std::collections::HashMap;
use std::sync::Arc;

use crate::authorization::User;

/// The tokens. Cloning copies a pointer.
#[derive(Clone, Default)]
pub struct StaticTokens(Arc<HashMap<String, User>>);

impl StaticTokens {
    /// Of the text of a file.
    ///
    /// # Errors
    /// The line that cannot be read.
    pub fn of_csv(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let fields = fields(line);
            let [token, name, uid, rest @ ..] = fields.as_slice() else {
                return Err(format!("line {}: it must read token,user,uid,\"group,group\"", number + 1));
            };
            if token.is_empty() || name.is_empty() {
                return Err(format!("line {}: token and user must not be empty", number + 1));
            }
            let groups = rest.iter().flat_map(|groups| groups.split(',')).map(str::trim);
            let groups = groups.filter(|group| !group.is_empty()).map(str::to_owned).collect();
            let user = User { name: name.clone(), uid: uid.clone(), groups, ..User::default() };
            users.insert(token.clone(), user);
        }
        Ok(Self(Arc::new(users)))
    }

    /// Whose token this is.
    #[must_use]
    pub fn user(&self, token: &str) -> Option<User> {
        self.0.get(token).cloned()
    }
}

/// The fields of a line; a comma between quotes is no end.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => {
                if let Some(last) = fields.last_mut() {
                    last.push(other);
                }
            }
        }
    }
    for field in &mut fields {
        *field = field.trim().to_owned();
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_users() {
        let tokens = StaticTokens::of_csv("t1,eva,1,\"a,b\"\n\nt2, bob, 2\n").unwrap();
        let eva = tokens.user("t1").unwrap();
        assert_eq!(
            (eva.name.as_str(), eva.uid.as_str(), eva.groups),
            ("eva", "1", vec!["a".into(), "b".into()])
        );
        assert_eq!(tokens.user("t2").unwrap().groups, Vec::<String>::new());
        assert!(tokens.user("t3").is_none());
        assert!(StaticTokens::of_csv("secret,eva").err().unwrap().starts_with("line 1: it must read"));
        assert!(!StaticTokens::of_csv("secret,eva").err().unwrap().contains("secret"));
    }
}
