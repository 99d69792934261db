"use strict";
// What objects mean, in words. Each function is told an object and answers values; none knows the page, the time or another object
// that it was not told.
//
// Levels, the worst first: "bad" needs somebody, "wait" is not there yet, "ok" is as asked for, "done" wants nothing more.

const LEVELS = ["bad", "wait", "ok", "done"];

function worse(one, other) {
  return LEVELS.indexOf(one) < LEVELS.indexOf(other) ? one : other;
}

function conditionOf(object, type) {
  return (object.status?.conditions ?? []).find((condition) => condition.type === type);
}

// A sentence or a word of a condition, a status or a state of a container.
function saidBy(told) {
  return told?.message || told?.reason || "";
}

// As kubectl counts ages.
function ageText(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(s / 60);
  const hours = Math.floor(s / 3600);
  const days = Math.floor(s / 86400);
  const withRest = (whole, unit, rest, small) => (rest ? `${whole}${unit}${rest}${small}` : `${whole}${unit}`);
  if (s < 120) return `${s}s`;
  if (minutes < 10) return withRest(minutes, "m", s % 60, "s");
  if (minutes < 180) return `${minutes}m`;
  if (hours < 8) return withRest(hours, "h", minutes % 60, "m");
  if (hours < 48) return `${hours}h`;
  if (days < 8) return withRest(days, "d", hours % 24, "h");
  if (days < 730) return `${days}d`;
  return withRest(Math.floor(days / 365), "y", days % 365, "d");
}

function bytesText(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let left = bytes;
  for (; left >= 1024 && unit < units.length - 1; unit += 1) left /= 1024;
  return `${left < 10 && unit > 0 ? left.toFixed(1) : Math.round(left)} ${units[unit]}`;
}

// Containers that wait for one of these are on their way; every other reason is trouble.
const ON_THE_WAY = ["ContainerCreating", "PodInitializing"];

function endText(ended) {
  if (ended.reason) return ended.reason;
  return ended.signal ? `Signal:${ended.signal}` : `ExitCode:${ended.exitCode}`;
}

// What one container has to say, if it is not as it should be.
function containerTrouble(container, pod, comesFirst) {
  const state = container.state ?? {};
  const last = container.lastState?.terminated;
  const after = last ? `; it ended last with exit code ${last.exitCode} (${endText(last)})` : "";
  if (state.waiting) {
    const { reason, message } = state.waiting;
    if (!reason || ON_THE_WAY.includes(reason)) return message ? `${container.name}: ${message}` : "";
    return `${container.name}: ${reason}${message ? `: ${message}` : ""}${after}`;
  }
  if (state.terminated && state.terminated.exitCode !== 0) {
    const { exitCode, message } = state.terminated;
    return `${container.name}: ended with exit code ${exitCode} (${endText(state.terminated)})${message ? `: ${message}` : ""}`;
  }
  if (state.running && comesFirst) return `${container.name}: the others wait until it has finished`;
  if (state.running && !container.ready && !pod.metadata.deletionTimestamp) {
    if (container.started === false) return `${container.name}: runs, but its startup has not succeeded yet${after}`;
    return `${container.name}: runs, but is not ready${after}`;
  }
  return "";
}

// The names of the containers that come first and go on beside the others.
function sidecarsOf(pod) {
  const inits = pod.spec?.initContainers ?? [];
  return new Set(inits.filter((one) => one.restartPolicy === "Always").map((one) => one.name));
}

// A pod: the word that kubectl shows, how bad that is, and why in sentences.
function podState(pod) {
  const spec = pod.spec ?? {};
  const status = pod.status ?? {};
  const inits = status.initContainerStatuses ?? [];
  const mains = status.containerStatuses ?? [];
  const sidecars = sidecarsOf(pod);
  const scheduled = conditionOf(pod, "PodScheduled");
  let word = status.reason || status.phase || "Unknown";
  let level = { Running: "ok", Succeeded: "done", Failed: "bad", Pending: "wait" }[status.phase] ?? "bad";
  if (scheduled?.reason === "SchedulingGated") word = "SchedulingGated";

  let starts = false;
  for (const [at, init] of inits.entries()) {
    const state = init.state ?? {};
    if (state.terminated?.exitCode === 0 || (sidecars.has(init.name) && init.started)) continue;
    starts = true;
    if (state.terminated) {
      word = `Init:${endText(state.terminated)}`;
      level = "bad";
    } else if (state.waiting?.reason && !ON_THE_WAY.includes(state.waiting.reason)) {
      word = `Init:${state.waiting.reason}`;
      level = "bad";
    } else {
      word = `Init:${at}/${(spec.initContainers ?? []).length}`;
    }
    break;
  }
  if (!starts) {
    let runs = false;
    for (const container of [...mains].reverse()) {
      const { waiting, terminated, running } = container.state ?? {};
      if (waiting?.reason) {
        word = waiting.reason;
        level = worse(level, ON_THE_WAY.includes(waiting.reason) ? "wait" : "bad");
      } else if (terminated) {
        word = endText(terminated);
        if (terminated.exitCode !== 0) level = "bad";
      } else if (running) {
        if (container.ready) runs = true;
        else level = worse(level, "wait");
      }
    }
    if (word === "Completed" && runs) {
      const ready = conditionOf(pod, "Ready")?.status === "True";
      word = ready ? "Running" : "NotReady";
      level = ready ? "ok" : "wait";
    }
  }
  const over = status.phase === "Succeeded" || status.phase === "Failed";
  if (status.phase === "Running" && level === "ok" && conditionOf(pod, "Ready")?.status === "False") level = "wait";
  if (pod.metadata.deletionTimestamp && !over) {
    word = status.reason === "NodeLost" ? "Unknown" : "Terminating";
    level = worse(level, "wait");
  }

  const counted = mains.concat(inits.filter((one) => sidecars.has(one.name)));
  return {
    word,
    level,
    ready: `${counted.filter((one) => one.ready).length}/${(spec.containers ?? []).length + sidecars.size}`,
    restarts: counted.reduce((sum, one) => sum + (one.restartCount ?? 0), 0),
    why: level === "ok" || level === "done" ? [] : podTrouble(pod, over),
  };
}

function podTrouble(pod, over) {
  const status = pod.status ?? {};
  const spec = pod.spec ?? {};
  const why = [];
  if (status.message) why.push(status.message);
  const scheduled = conditionOf(pod, "PodScheduled");
  if (scheduled?.status === "False") why.push(`No node for it: ${saidBy(scheduled)}`);
  const sidecars = sidecarsOf(pod);
  const inits = (status.initContainerStatuses ?? []).map((one) => containerTrouble(one, pod, !sidecars.has(one.name)));
  const statuses = status.containerStatuses ?? [];
  why.push(...[...inits, ...statuses.map((one) => containerTrouble(one, pod, false))].filter(Boolean));
  const [contained, ready] = [conditionOf(pod, "ContainersReady"), conditionOf(pod, "Ready")];
  if (ready?.status === "False" && contained?.status === "True") why.push(`Not ready: ${saidBy(ready)}`);
  const disrupted = conditionOf(pod, "DisruptionTarget");
  if (disrupted?.status === "True") why.push(saidBy(disrupted));
  if (pod.metadata.deletionTimestamp) {
    const kept = pod.metadata.finalizers ?? [];
    why.push(kept.length ? `It was asked to end, and is kept by ${kept.join(", ")}` : "It was asked to end");
  }
  if (why.length === 0 && !over) {
    if (!spec.nodeName) why.push("No scheduler has looked at it yet");
    else if (inits.length + statuses.length === 0) why.push(`${spec.nodeName} has not told of it yet`);
    else why.push(`Its containers are being made on ${spec.nodeName}`);
  }
  return why;
}

// Deployments, StatefulSets, DaemonSets and Jobs.
function workloadState(kind, object) {
  const state = kind === "Job" ? jobState(object) : replicasState(kind, object);
  const { generation } = object.metadata;
  const seen = object.status?.observedGeneration;
  if (kind !== "Job" && generation && (seen ?? 0) < generation) {
    state.why.unshift("The controllers have not seen its last change yet");
    state.level = worse(state.level, "wait");
    if (state.word === "Ready") state.word = "Changed";
  }
  return state;
}

function replicasState(kind, object) {
  const spec = object.spec ?? {};
  const status = object.status ?? {};
  const daemons = kind === "DaemonSet";
  const desired = (daemons ? status.desiredNumberScheduled : (spec.replicas ?? 1)) ?? 0;
  const ready = (daemons ? status.numberReady : status.readyReplicas) ?? 0;
  const updated = (daemons ? status.updatedNumberScheduled : status.updatedReplicas) ?? 0;
  // Some are meant to stay as they are.
  const strategy = spec.updateStrategy ?? {};
  const stays = strategy.type === "OnDelete" || (strategy.rollingUpdate?.partition ?? 0) > 0;
  const state = { word: "Ready", level: "ok", ready: `${ready}/${desired}`, updated: `${updated}`, why: [] };
  const old = kind === "Deployment" ? Math.max(0, (status.replicas ?? 0) - updated) : 0;
  if (ready < desired || (updated < desired && !stays) || old > 0) {
    state.word = updated < desired || old > 0 ? "Rolling out" : "Not ready";
    state.level = "wait";
    if (ready < desired) state.why.push(`${ready} of ${desired} pods are ready`);
    if (updated < desired && !stays) state.why.push(`${updated} of ${desired} pods are of the newest template`);
    if (old > 0) state.why.push(`${old} older ${old === 1 ? "pod has" : "pods have"} not gone yet`);
  } else if (desired === 0) {
    state.word = daemons ? "No nodes" : "Scaled to 0";
    state.level = "done";
  }
  if (daemons && status.numberMisscheduled) state.why.push(`${status.numberMisscheduled} run where they should not`);
  const available = conditionOf(object, "Available");
  if (available?.status === "False") state.why.push(saidBy(available));
  if (spec.paused) {
    state.why.push("It is paused");
    if (state.level === "wait") state.word = "Paused";
  }
  const progressing = conditionOf(object, "Progressing");
  const failing = conditionOf(object, "ReplicaFailure");
  if (progressing?.status === "False") {
    state.word = "Not progressing";
    state.level = "bad";
    state.why.push(saidBy(progressing));
  }
  if (failing?.status === "True") {
    state.word = "Failing";
    state.level = "bad";
    state.why.push(saidBy(failing));
  }
  return state;
}

function jobState(job) {
  const spec = job.spec ?? {};
  const { succeeded = 0, active = 0, failed = 0 } = job.status ?? {};
  const state = {
    word: "Running",
    level: "ok",
    ready: `${succeeded}/${spec.completions ?? 1} done`,
    updated: active ? `${active} active` : "",
    why: [],
  };
  const is = (type) => (conditionOf(job, type)?.status === "True" ? conditionOf(job, type) : undefined);
  const lost = is("Failed") ?? is("FailureTarget");
  if (lost) {
    state.word = "Failed";
    state.level = "bad";
    state.why.push(saidBy(lost));
  } else if (is("Complete") || is("SuccessCriteriaMet")) {
    state.word = "Complete";
    state.level = "done";
  } else if (spec.suspend) {
    state.word = "Suspended";
    state.level = "done";
  } else {
    if (!active) {
      state.word = "Waiting";
      state.level = "wait";
      state.why.push("None of its pods runs");
    }
    if (failed) {
      state.level = "wait";
      state.why.push(`${failed} of its pods failed`);
    }
  }
  return state;
}

const PRESSURES = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

function nodeState(node) {
  const spec = node.spec ?? {};
  const status = node.status ?? {};
  const ready = conditionOf(node, "Ready");
  const state = { word: "Ready", level: "ok", why: [] };
  if (ready?.status !== "True") {
    state.word = "NotReady";
    state.level = "bad";
    state.why.push(ready ? saidBy(ready) : "It has not said yet that it is ready");
  }
  for (const type of PRESSURES) {
    const pressure = conditionOf(node, type);
    if (pressure?.status !== "True") continue;
    state.level = worse(state.level, "wait");
    state.why.push(`${type}: ${saidBy(pressure)}`);
  }
  if (spec.unschedulable) {
    state.word += ", cordoned";
    state.level = worse(state.level, "wait");
    state.why.push("It takes no new pods: it is cordoned");
  }
  const front = "node-role.kubernetes.io/";
  const labels = Object.keys(node.metadata.labels ?? {});
  state.roles = labels.filter((label) => label.startsWith(front)).map((label) => label.slice(front.length)).join(", ");
  state.version = status.nodeInfo?.kubeletVersion ?? "";
  const addresses = (status.addresses ?? []).filter((one) => one.type.endsWith("IP"));
  state.addresses = [...new Set(addresses.map((one) => one.address))];
  state.taints = (spec.taints ?? []).map((taint) => `${taint.key}${taint.value ? `=${taint.value}` : ""}:${taint.effect}`);
  return state;
}

function eventState(event) {
  const about = event.involvedObject ?? {};
  return {
    at: event.series?.lastObservedTime ?? event.lastTimestamp ?? event.eventTime ?? event.metadata.creationTimestamp,
    word: event.type || "Normal",
    level: event.type === "Warning" ? "wait" : "ok",
    kind: about.kind ?? "",
    namespace: about.namespace || event.metadata.namespace || "",
    name: about.name ?? "",
    reason: event.reason ?? "",
    message: (event.message ?? event.note ?? "").trim(),
    count: Math.max(1, event.series?.count ?? event.count ?? 1),
  };
}

// A member of the store, as /ui/masters tells it.
function memberState(member) {
  if (member.state === "silent") return { word: "Silent", level: "bad", lag: "", why: [member.why] };
  const word = { leader: "Leader", follower: "Follower", learner: "Learner" }[member.state] ?? member.state;
  const why = [...member.complaints];
  if (member.state === "learner") why.push("It has no vote yet");
  const behind = member.entriesBehind;
  return {
    word,
    level: member.complaints.length ? "bad" : member.state === "learner" ? "wait" : "ok",
    lag: member.state === "leader" ? "" : behind === 0 ? "in step" : `${behind} ${behind === 1 ? "entry" : "entries"}`,
    why,
  };
}
