// What each section shows: from objects to rows, the worst first, and a line that says how it is. Nothing here asks for anything.

const COLLECTIONS = {
  nodes: "/api/v1/nodes",
  pods: "/api/v1/pods",
  events: "/api/v1/events",
  deployments: "/apis/apps/v1/deployments",
  statefulsets: "/apis/apps/v1/statefulsets",
  daemonsets: "/apis/apps/v1/daemonsets",
  jobs: "/apis/batch/v1/jobs",
};

const WORKLOADS = { deployments: "Deployment", statefulsets: "StatefulSet", daemonsets: "DaemonSet", jobs: "Job" };

function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

// Text and namespace that rows must have.
class Filter {
  constructor(text, namespace) {
    this.words = text.toLowerCase().split(/\s+/).filter(Boolean);
    this.namespace = namespace;
  }

  takes(texts, namespace) {
    if (this.namespace && namespace !== undefined && namespace !== this.namespace) return false;
    const text = this.words.length ? texts.flat().join(" ").toLowerCase() : "";
    return this.words.every((word) => text.includes(word));
  }
}

const collator = new Intl.Collator("en", { numeric: true });

function byTroubleThenName(one, other) {
  return LEVELS.indexOf(one.level) - LEVELS.indexOf(other.level) || collator.compare(one.sort, other.sort);
}

function fullName({ namespace, name }) {
  return namespace ? `${namespace}/${name}` : name;
}

// How many of the rows there are, and how many of them the filter takes.
function counted(all, shown, one, many) {
  return all === shown ? plural(all, one, many) : `${shown} of ${plural(all, one, many)}`;
}

// Each answers {rows, count, total, bad}: `total` and `bad` are without the filter.
const SECTIONS = {
  masters(seen, filter) {
    const all = seen.masters.members.map((member) => ({ member, state: memberState(member) }));
    const taken = all.filter(({ member, state }) => filter.takes([member.name, state.word, ...state.why]));
    const rows = taken.map(({ member, state }) => ({
      key: member.id,
      level: state.level,
      cells: [
        { name: member.name || member.id },
        { level: state.level, word: state.word },
        member.term,
        member.revision === undefined ? "" : member.revision.toLocaleString("en"),
        state.lag,
        member.sizeBytes === undefined ? "" : bytesText(member.sizeBytes),
        { lines: state.why.length ? state.why : member.clientURLs },
      ],
    }));
    return { rows, all, count: counted(all.length, rows.length, "member") };
  },

  nodes(seen, filter) {
    const pods = new Map();
    for (const pod of seen.pods.items.values()) {
      const over = ["Succeeded", "Failed"].includes(pod.status?.phase);
      if (!over) pods.set(pod.spec.nodeName, (pods.get(pod.spec.nodeName) ?? 0) + 1);
    }
    const all = [...seen.nodes.items.values()].map((node) => {
      const state = nodeState(node);
      return { node, state, level: state.level, sort: node.metadata.name };
    });
    const taken = all.filter(({ node, state }) => {
      return filter.takes([node.metadata.name, state.word, state.roles, state.addresses, state.taints, state.why]);
    });
    const rows = taken.sort(byTroubleThenName).map(({ node, state }) => ({
      key: node.metadata.uid,
      level: state.level,
      cells: [
        { name: node.metadata.name },
        { level: state.level, word: state.word },
        seen.pods.state === "refused" ? "?" : (pods.get(node.metadata.name) ?? 0),
        { lines: [...state.why, ...state.taints.map((taint) => `Taint ${taint}`)] },
        state.roles,
        { lines: state.addresses },
        state.version,
        { at: node.metadata.creationTimestamp },
      ],
    }));
    return { rows, all, count: counted(all.length, rows.length, "node") };
  },

  workloads(seen, filter) {
    const all = [];
    for (const [collection, kind] of Object.entries(WORKLOADS)) {
      for (const object of seen[collection].items.values()) {
        const state = workloadState(kind, object);
        all.push({ kind, object, state, level: state.level, sort: `${fullName(object.metadata)} ${kind}` });
      }
    }
    const taken = all.filter(({ kind, object, state }) => {
      return filter.takes([kind, fullName(object.metadata), state.word, state.why], object.metadata.namespace);
    });
    const rows = taken.sort(byTroubleThenName).map(({ kind, object, state }) => ({
      key: object.metadata.uid,
      level: state.level,
      cells: [
        object.metadata,
        kind,
        { level: state.level, word: state.word },
        state.ready,
        state.updated,
        { lines: state.why },
        { at: object.metadata.creationTimestamp },
      ].map(named),
    }));
    return { rows, all, count: counted(all.length, rows.length, "workload") };
  },

  pods(seen, filter) {
    const all = [...seen.pods.items.values()].map((pod) => {
      const state = podState(pod);
      return { pod, state, level: state.level, sort: fullName(pod.metadata) };
    });
    const taken = all.filter(({ pod, state }) => {
      const { nodeName = "" } = pod.spec;
      return filter.takes([fullName(pod.metadata), state.word, nodeName, state.why], pod.metadata.namespace);
    });
    const rows = taken.sort(byTroubleThenName).map(({ pod, state }) => ({
      key: pod.metadata.uid,
      level: state.level,
      cells: [
        pod.metadata,
        { level: state.level, word: state.word },
        state.ready,
        state.restarts,
        { lines: state.why },
        pod.spec.nodeName,
        { at: pod.metadata.creationTimestamp },
      ].map(named),
    }));
    return { rows, all, count: counted(all.length, rows.length, "pod") };
  },

  events(seen, filter) {
    const all = [...seen.events.items.values()].map((event) => {
      const state = eventState(event);
      return { event, state, level: state.level, at: Date.parse(state.at) || 0 };
    });
    const taken = all.filter(({ state }) => {
      return filter.takes([state.word, state.reason, state.kind, fullName(state), state.message], state.namespace);
    });
    taken.sort((one, other) => other.at - one.at || collator.compare(other.event.metadata.name, one.event.metadata.name));
    const rows = taken.map(({ event, state }) => ({
      key: event.metadata.uid,
      level: state.level,
      cells: [
        { at: state.at },
        { level: state.level, word: state.word },
        state.reason,
        { lines: [`${state.kind} ${fullName(state)}`] },
        state.message,
        state.count > 1 ? `×${state.count}` : "",
      ],
    }));
    return { rows, all, count: counted(all.length, rows.length, "event") };
  },
};

// Of metadata, what stands in a cell.
function named(cell) {
  return cell && cell.uid ? { namespace: cell.namespace, name: cell.name } : cell;
}

// The line of the overview: how many, and how many of them are not as they should be.
function overview(section, all) {
  const bad = all.filter(({ level, state }) => (level ?? state.level) === "bad").length;
  const wait = all.filter(({ level, state }) => (level ?? state.level) === "wait").length;
  if (section === "events") {
    return { number: all.length, level: wait ? "wait" : "ok", words: wait ? plural(wait, "warning") : "no warnings" };
  }
  if (all.length === 0) return { number: 0, level: "done", words: "none" };
  if (bad === 0 && wait === 0) return { number: all.length, level: "ok", words: "all well" };
  const words = [bad && `${bad} in trouble`, wait && `${wait} to watch`].filter(Boolean).join(", ");
  return { number: all.length, level: bad ? "bad" : "wait", words };
}
