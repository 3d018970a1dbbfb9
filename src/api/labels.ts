/**
 * Cilium's label model: a label is source, key and value; the set of an endpoint's identity-relevant
 * labels, in canonical order, names its security identity. Pure.
 * Source: Cilium documentation, "Limiting Identity-Relevant Labels" and "Terminology: Labels".
 */

/** Identity-relevant labels: `source:key` → value. `k8s:app` → `cart`. */
export type Labels = Readonly<Record<string, string>>;

export const labelNames = {
  namespace: 'io.kubernetes.pod.namespace',
  namespaceLabels: 'io.cilium.k8s.namespace.labels',
  serviceAccount: 'io.cilium.k8s.policy.serviceaccount',
  cluster: 'io.cilium.k8s.policy.cluster',
  namespaceName: 'kubernetes.io/metadata.name',
} as const;

/** What is needed of a pod and its namespace to know its labels. */
export interface PodLabelSource {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
  readonly namespaceLabels: Readonly<Record<string, string>>;
  readonly cluster: string;
}

/** The identity-relevant labels of a pod, by `filter`. */
export function podLabels(pod: PodLabelSource, filter: LabelFilter = defaultFilter): Labels {
  const found: Record<string, string> = {};
  const take = (key: string, value: string): void => {
    if (filter.relevant('k8s', key)) found[`k8s:${key}`] = value;
  };
  for (const [key, value] of Object.entries(pod.labels)) {
    // A pod may not claim a namespace, cluster or service account by writing Cilium's own labels on itself.
    if (!key.startsWith('io.cilium.k8s.') && key !== labelNames.namespace) take(key, value);
  }
  for (const [key, value] of Object.entries(pod.namespaceLabels))
    take(`${labelNames.namespaceLabels}.${key}`, value);
  take(labelNames.namespace, pod.namespace);
  if (pod.serviceAccount) take(labelNames.serviceAccount, pod.serviceAccount);
  take(labelNames.cluster, pod.cluster);
  return found;
}

/** Labels as one text, sorted by key, each ended by `;`: equal sets give equal texts. `k8s:app=cart;k8s:tier=;` */
export function formatLabels(labels: Labels): string {
  return sortedEntries(labels)
    .map(([name, value]) => `${name}=${value};`)
    .join('');
}

/** The inverse of `formatLabels`; a label without a source is `unspec`, as in Cilium. Throws on an empty key. */
export function parseLabels(text: string): Labels {
  const labels: Record<string, string> = {};
  for (const part of text.split(';')) {
    if (part === '') continue;
    const { source, key, value } = parseLabel(part);
    labels[`${source}:${key}`] = value;
  }
  return labels;
}

export interface Label {
  readonly source: string;
  readonly key: string;
  readonly value: string;
}

/** One `source:key=value`; source and value may be missing. A colon after the first `=` belongs to the value. */
export function parseLabel(text: string): Label {
  const equals = text.indexOf('=');
  const name = equals === -1 ? text : text.slice(0, equals);
  const value = equals === -1 ? '' : text.slice(equals + 1);
  const colon = name.indexOf(':');
  const source = colon > 0 ? name.slice(0, colon) : 'unspec';
  const key = name.slice(colon + 1);
  if (key === '')
    throw new Error(`label ${JSON.stringify(text)}: expected source:key=value, the key is empty`);
  return { source, key, value };
}

/** `source:key=value` texts as CiliumEndpoint's status carries them, in canonical order. */
export function labelTexts(labels: Labels): string[] {
  return sortedEntries(labels).map(([name, value]) => (value === '' ? name : `${name}=${value}`));
}

/** Sorted by key, the source being a tie-break: the order Cilium serialises in. */
export function sortedEntries(labels: Labels): [string, string][] {
  const keyed = Object.entries(labels).map(([name, value]) => {
    const colon = name.indexOf(':');
    return { key: name.slice(colon + 1), name, value };
  });
  keyed.sort((a, b) =>
    a.key < b.key ? -1 : a.key > b.key ? 1 : a.name < b.name ? -1 : a.name > b.name ? 1 : 0,
  );
  return keyed.map(({ name, value }) => [name, value]);
}

export interface LabelFilter {
  relevant(source: string, key: string): boolean;
}

interface Pattern {
  /** Empty: any source. */
  readonly source: string;
  readonly match: RegExp;
  readonly ignore: boolean;
}

const defaultPatterns = [
  'reserved:.*',
  'io\\.kubernetes\\.pod\\.namespace',
  'io\\.cilium\\.k8s\\.namespace\\.labels',
  'app\\.kubernetes\\.io',
  'io\\.cilium\\.k8s\\.policy\\.cluster',
  'io\\.cilium\\.k8s\\.policy\\.serviceaccount',
  '!io\\.kubernetes',
  '!kubernetes\\.io',
  '!statefulset\\.kubernetes\\.io/pod-name',
  '!apps\\.kubernetes\\.io/pod-index',
  '!batch\\.kubernetes\\.io/job-completion-index',
  '!batch\\.kubernetes\\.io/controller-uid',
  '!.*beta\\.kubernetes\\.io',
  '!k8s\\.io',
  '!pod-template-generation',
  '!pod-template-hash',
  '!controller-revision-hash',
  '!controller-uid',
  '!annotation.*',
  '!etcd_node',
  '!topology\\.kubernetes\\.io',
];

/**
 * Decides which labels make an identity. `extra` is the value of the option `labels`: patterns separated by
 * spaces, each `[source:][!]regex`, matched at the start of the key. Once it includes anything, only included
 * labels count.
 */
export function labelFilter(extra = ''): LabelFilter {
  const own = extra.split(/\s+/).filter(Boolean).map(parsePattern);
  const patterns = [...defaultPatterns.map(parsePattern), ...own];
  const whitelist = own.some(each => !each.ignore);
  const known = new Map<string, boolean>();
  return {
    relevant(source, key) {
      const name = `${source}:${key}`;
      let verdict = known.get(name);
      if (verdict === undefined) {
        verdict = judge(patterns, whitelist, source, key);
        // Label keys of a cluster are few; one that makes them up must not fill the memory.
        if (known.size > 10_000) known.clear();
        known.set(name, verdict);
      }
      return verdict;
    },
  };
}

/** An included match must be longer than the shortest ignored one; with a whitelist there must be one. */
function judge(patterns: readonly Pattern[], whitelist: boolean, source: string, key: string): boolean {
  let included = -1;
  let ignored = Number.POSITIVE_INFINITY;
  for (const pattern of patterns) {
    if (pattern.source && pattern.source !== source) continue;
    const length = pattern.match.exec(key)?.[0].length;
    if (length === undefined) continue;
    if (pattern.ignore) ignored = Math.min(ignored, length);
    else included = Math.max(included, length);
  }
  if (ignored === Number.POSITIVE_INFINITY) return !whitelist || included >= 0;
  return included > ignored;
}

function parsePattern(text: string): Pattern {
  const [, source = '', bang = '', expression = ''] = /^(?:([a-z0-9-]+):)?(!?)(.*)$/s.exec(text) ?? [];
  if (expression === '')
    throw new Error(`labels: pattern ${JSON.stringify(text)}: expected [source:][!]regex`);
  try {
    const match = new RegExp(`^(?:${expression})`);
    return { source: source === 'any' ? '' : source, match, ignore: bang === '!' };
  } catch (error) {
    throw new Error(`labels: pattern ${JSON.stringify(text)}: ${(error as Error).message}`);
  }
}

const defaultFilter = labelFilter();
