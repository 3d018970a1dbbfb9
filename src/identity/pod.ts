import { formatLabels, type LabelFilter, type Labels, labelFilter, podLabels } from '../api/labels.ts';
import type { Namespace, Pod } from '../kube/objects.ts';
import { derive, input } from '../table/derive.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';

export interface NamedPort {
  readonly name: string;
  readonly port: number;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
}

/** What a daemon keeps of a pod. */
export interface PodRow {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly node: string;
  readonly hostNetwork: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
  readonly ports: readonly NamedPort[];
  /** Kubernetes' phase: a Succeeded or Failed pod has given its addresses back. */
  readonly phase: string;
  readonly addresses: readonly string[];
  /** It has been told to end. */
  readonly leaving: boolean;
}

/** What a daemon keeps of a namespace. */
export interface NamespaceRow {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

export function podRow(pod: Pod): PodRow {
  const { metadata, spec, status } = pod;
  const sidecars = (spec.initContainers ?? []).filter(each => each.restartPolicy === 'Always');
  const ports = [...spec.containers, ...sidecars]
    .flatMap(each => each.ports ?? [])
    .flatMap(({ name, containerPort, protocol }) =>
      name ? [{ name, port: containerPort, protocol: protocol ?? 'TCP' }] : [],
    );
  return {
    namespace: metadata.namespace ?? '',
    name: metadata.name,
    uid: metadata.uid,
    node: spec.nodeName ?? '',
    hostNetwork: spec.hostNetwork ?? false,
    labels: metadata.labels ?? {},
    annotations: metadata.annotations ?? {},
    serviceAccount: spec.serviceAccountName ?? '',
    ports,
    phase: status?.phase ?? '',
    addresses: status?.podIPs?.map(each => each.ip) ?? (status?.podIP ? [status.podIP] : []),
    leaving: !!metadata.deletionTimestamp,
  };
}

export function namespaceRow({ metadata }: Namespace): NamespaceRow {
  return { name: metadata.name, labels: metadata.labels ?? {} };
}

/** Keyed `namespace/name`; index `namespace`. */
export function podsTable(): Table<PodRow> {
  return new Table<PodRow>({
    name: 'pods',
    keyOf: row => `${row.namespace}/${row.name}`,
    indexes: { namespace: row => [row.namespace] },
  });
}

export function namespacesTable(): Table<NamespaceRow> {
  return new Table<NamespaceRow>({
    name: 'namespaces',
    keyOf: row => row.name,
    equal: (a, b) => sameStrings(a.labels, b.labels),
  });
}

/** A pod's identity-relevant labels. */
export interface PodLabelsRow {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Labels;
  readonly text: string;
}

/**
 * The identity-relevant labels of every pod with a network of its own, once its namespace is known; follows
 * changes of either. Keyed `namespace/name`, index `text`.
 */
export function derivePodLabels(
  pods: ReadonlyTable<PodRow>,
  namespaces: ReadonlyTable<NamespaceRow>,
  options: { cluster: string; filter?: LabelFilter },
): ReadonlyTable<PodLabelsRow> {
  const filter = options.filter ?? labelFilter();
  const keyOf = (row: { namespace: string; name: string }) => `${row.namespace}/${row.name}`;
  return derive<PodLabelsRow>({
    name: 'pod labels',
    keyOf,
    indexes: { text: row => [row.text] },
    equal: (a, b) => a.uid === b.uid && a.text === b.text,
    inputs: [
      input(pods, row => [keyOf(row)]),
      input(namespaces, row => [...pods.by('namespace', row.name)].map(keyOf)),
    ],
    compute(key) {
      const pod = pods.get(key);
      const namespace = pod && namespaces.get(pod.namespace);
      if (!namespace || pod.hostNetwork) return [];
      const labels = podLabels(
        { ...pod, namespaceLabels: namespace.labels, cluster: options.cluster },
        filter,
      );
      return [{ namespace: pod.namespace, name: pod.name, uid: pod.uid, labels, text: formatLabels(labels) }];
    },
  });
}

function sameStrings(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every(key => a[key] === b[key]);
}
