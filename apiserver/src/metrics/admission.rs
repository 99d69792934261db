//! `apiserver_admission_*`, `apiserver_validating_admission_policy_*`: what admission took, and whom it stopped. Names are those
//! of plugins and of what administrators configure; must never be those of objects.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec};

use super::register::Register;

/// See the module's description.
#[derive(Debug)]
pub struct AdmissionMetrics {
    steps: HistogramVec,
    plugins: HistogramVec,
    webhooks: HistogramVec,
    webhook_requests: IntCounterVec,
    webhook_rejections: IntCounterVec,
    webhook_failures_ignored: IntCounterVec,
    policy_checks: IntCounterVec,
}

/// What is done: objects are changed, or judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Objects may change.
    Admit,
    /// They may only be refused.
    Validate,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }

    /// As metrics of webhooks say it.
    const fn of_webhooks(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validating",
        }
    }
}

/// Why a webhook stops a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It says no.
    Denied,
    /// It could not be asked, and has to be.
    NotCalled,
    /// Something is wrong on the way to it.
    Internal,
}

/// How a call of a webhook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// A number of HTTP; 0 where there is none.
    pub code: u16,
    /// Why the request is stopped by it, if it is.
    pub rejection: Option<Rejection>,
    /// It could not be asked, and the request goes on.
    pub ignored: bool,
}

const BUCKETS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOK_BUCKETS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Greater codes are told as this one.
const CODE_MAX: u16 = 600;

const fn truth(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

impl AdmissionMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        let named = ["name", "type", "operation", "rejected"];
        Self {
            steps: r.histograms(
                "apiserver_admission_step_admission_duration_seconds",
                "How long all plugins took that change objects, and all that judge them.",
                &["type", "operation", "rejected"],
                &BUCKETS,
            ),
            plugins: r.histograms(
                "apiserver_admission_controller_admission_duration_seconds",
                "How long each plugin took.",
                &named,
                &BUCKETS,
            ),
            webhooks: r.histograms(
                "apiserver_admission_webhook_admission_duration_seconds",
                "How long each webhook took.",
                &named,
                &WEBHOOK_BUCKETS,
            ),
            webhook_requests: r.counters(
                "apiserver_admission_webhook_request_total",
                "Calls of each webhook by what became of them.",
                &["name", "type", "operation", "code", "rejected"],
            ),
            webhook_rejections: r.counters(
                "apiserver_admission_webhook_rejection_count",
                "Requests that each webhook stopped.",
                &["name", "type", "operation", "error_type", "rejection_code"],
            ),
            webhook_failures_ignored: r.counters(
                "apiserver_admission_webhook_fail_open_count",
                "Requests that went on although a webhook could not be asked.",
                &["name", "type"],
            ),
            policy_checks: r.counters(
                "apiserver_validating_admission_policy_check_total",
                "What policies found, by what is done about it.",
                &["policy", "policy_binding", "error_type", "enforcement_action"],
            ),
        }
    }

    /// All plugins had their say.
    pub fn step(&self, step: Step, operation: &str, rejected: bool, taken: Duration) {
        let labels = [step.name(), operation, truth(rejected)];
        self.steps.with_label_values(&labels).observe(taken.as_secs_f64());
    }

    /// A plugin had its say.
    pub fn plugin(&self, name: &'static str, step: Step, operation: &str, rejected: bool, taken: Duration) {
        let labels = [name, step.name(), operation, truth(rejected)];
        self.plugins.with_label_values(&labels).observe(taken.as_secs_f64());
    }

    /// A webhook was called.
    pub fn webhook(&self, name: &str, step: Step, operation: &str, called: Called, taken: Duration) {
        let (kind, code) = (step.of_webhooks(), called.code.min(CODE_MAX).to_string());
        let rejected = truth(called.rejection.is_some());
        self.webhooks.with_label_values(&[name, kind, operation, rejected]).observe(taken.as_secs_f64());
        self.webhook_requests.with_label_values(&[name, kind, operation, &code, rejected]).inc();
        if let Some(rejection) = called.rejection {
            let why = match rejection {
                Rejection::Denied => "no_error",
                Rejection::NotCalled => "calling_webhook_error",
                Rejection::Internal => "apiserver_internal_error",
            };
            self.webhook_rejections.with_label_values(&[name, kind, operation, why, &code]).inc();
        }
        if called.ignored {
            self.webhook_failures_ignored.with_label_values(&[name, kind]).inc();
        }
    }

    /// A policy found something, or could not be evaluated; `action` is what is done about it.
    pub fn policy(&self, policy: &str, binding: &str, error_type: &'static str, action: &'static str) {
        self.policy_checks.with_label_values(&[policy, binding, error_type, action]).inc();
    }
}
