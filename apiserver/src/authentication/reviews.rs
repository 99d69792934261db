//! Questions about users that clients ask as objects: whose token this is, and who they are themselves. Pure but for the answer
//! that is handed in.

use barque_api::time::Time;
use serde_json::{Map, Value, json};

use crate::authorization::User;

/// A user as these objects tell them.
#[must_use]
pub fn user_info(user: &User) -> Value {
    let mut info = Map::new();
    info.insert("username".to_owned(), user.name.as_str().into());
    if !user.uid.is_empty() {
        info.insert("uid".to_owned(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        info.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra".to_owned(), json!(user.extra));
    }
    Value::Object(info)
}

/// A `TokenReview` with its answer: whose token it is and for which audiences, or nothing.
#[must_use]
pub fn token_review(review: &Value, found: Option<(User, Vec<String>)>) -> Value {
    let mut answered = review.clone();
    answered["status"] = match found {
        Some((user, audiences)) => {
            let mut status = json!({"authenticated": true, "user": user_info(&user)});
            if !audiences.is_empty() {
                status["audiences"] = json!(audiences);
            }
            status
        }
        None => json!({"user": {}, "error": "invalid bearer token"}),
    };
    answered
}

/// A `SelfSubjectReview` with its answer.
#[must_use]
pub fn self_subject_review(review: &Value, user: &User, now: Time) -> Value {
    let mut answered = review.clone();
    answered["metadata"]["creationTimestamp"] = now.to_string().into();
    answered["status"] = json!({"userInfo": user_info(user)});
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_told_without_what_they_have_not() {
        let user = User { name: "eva".into(), groups: vec!["a".into()], ..User::default() };
        assert_eq!(user_info(&user), json!({"username": "eva", "groups": ["a"]}));
        let review = json!({"spec": {"token": "x"}});
        let good = token_review(&review, Some((user.clone(), vec!["b".into()])));
        assert_eq!(
            (&good["status"]["authenticated"], &good["status"]["audiences"]),
            (&json!(true), &json!(["b"]))
        );
        assert_eq!(token_review(&review, None)["status"]["error"], "invalid bearer token");
        let own = self_subject_review(&json!({}), &user, Time::of_unix(0));
        assert_eq!(own["status"]["userInfo"]["username"], "eva");
    }
}
