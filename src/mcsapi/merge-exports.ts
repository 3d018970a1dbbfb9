import type { ExportedPort, ExportedService, IpFamily } from './exported-service.ts';

/** Reasons of the condition Conflict, as the API names them, in the order in which one is chosen of several. */
export type ConflictReason =
  | 'PortConflict'
  | 'IPFamilyConflict'
  | 'TypeConflict'
  | 'SessionAffinityConflict'
  | 'SessionAffinityConfigConflict'
  | 'AnnotationsConflict'
  | 'LabelsConflict'
  | 'InternalTrafficPolicyConflict'
  | 'TrafficDistributionConflict';

export interface Conflict {
  readonly reason: ConflictReason;
  readonly message: string;
}

/** One service of the clusterset: what all clusters that export it say, taken together. */
export interface MergedService
  extends Pick<
    ExportedService,
    | 'type'
    | 'sessionAffinity'
    | 'affinityTimeout'
    | 'ipFamilies'
    | 'internalTrafficPolicy'
    | 'trafficDistribution'
    | 'labels'
    | 'annotations'
  > {
  readonly ports: readonly ExportedPort[];
  /** Names of the clusters that export it, sorted. */
  readonly clusters: readonly string[];
  /** All they disagree about, the gravest first. */
  readonly conflicts: readonly Conflict[];
}

/**
 * Merges the exports of one service, at least one: ports of all, families that all have in common, and of everything
 * else what the oldest export says; of exports made in the same second that of the first cluster by name. Source:
 * KEP-1645, "Constraints and Conflict Resolution", and Cilium for the families.
 */
export function mergeExports(exports: Iterable<ExportedService>): MergedService {
  const ordered = [...exports].sort(
    (a, b) => Date.parse(a.created) - Date.parse(b.created) || (a.cluster < b.cluster ? -1 : 1),
  );
  const oldest = ordered[0];
  if (!oldest) throw new Error('nothing is exported');
  const ports = mergePorts(ordered);
  const families = commonFamilies(ordered);
  return {
    type: oldest.type,
    sessionAffinity: oldest.sessionAffinity,
    affinityTimeout: oldest.affinityTimeout,
    internalTrafficPolicy: oldest.internalTrafficPolicy,
    trafficDistribution: oldest.trafficDistribution,
    labels: oldest.labels,
    annotations: oldest.annotations,
    ports: ports.merged,
    ipFamilies: families.merged,
    clusters: ordered.map(each => each.cluster).sort(),
    conflicts: [
      ...ports.conflicts,
      ...families.conflicts,
      ...compared.flatMap(field => disagreement(field, oldest, ordered)),
    ],
  };
}

/** The port of the clusterset that a cluster's own port is: it may have got another name. */
export function mergedPortOf(
  merged: Pick<MergedService, 'ports'>,
  port: Pick<ExportedPort, 'protocol' | 'port'>,
): ExportedPort | undefined {
  return merged.ports.find(each => each.port === port.port && each.protocol === port.protocol);
}

function mergePorts(ordered: readonly ExportedService[]): {
  merged: readonly ExportedPort[];
  conflicts: Conflict[];
} {
  const merged: { port: ExportedPort; cluster: string }[] = [];
  const messages: string[] = [];
  for (const { cluster, ports } of ordered)
    for (const port of ports) {
      const same = merged.find(each => mergedPortOf({ ports: [each.port] }, port));
      const named = merged.find(each => each.port.name === port.name);
      // A Service of several ports must name them all.
      const nameless = merged.find(each => port.name === '' || each.port.name === '');
      if (same) {
        if (same.port.name !== port.name)
          messages.push(
            `port ${portText(port)} of ${cluster} is named ${quoted(same.port.name)}, as by the older export of ${same.cluster}`,
          );
        else if (same.port.appProtocol !== port.appProtocol)
          messages.push(
            `port ${portText(port)} of ${cluster} has the appProtocol ${quoted(same.port.appProtocol)}, as by the older export of ${same.cluster}`,
          );
      } else if (named ?? nameless) {
        const { port: other, cluster: by } = (named ?? nameless)!;
        messages.push(
          named
            ? `port ${portText(port)} of ${cluster} is left out: the older export of ${by} has ${portText(other)} under its name`
            : `port ${portText(port)} of ${cluster} is left out: a port without a name stands alone, and the older export of ${by} has ${portText(other)}`,
        );
      } else merged.push({ port, cluster });
    }
  for (const { cluster, ports } of ordered) {
    const missing = merged.filter(each => !mergedPortOf({ ports }, each.port));
    if (missing.length)
      messages.push(`${cluster} does not have ${missing.map(each => portText(each.port)).join(', ')}`);
  }
  return {
    merged: merged.map(each => each.port),
    conflicts: messages.length ? [{ reason: 'PortConflict', message: `ports: ${messages.join('; ')}` }] : [],
  };
}

const quoted = (text: string): string => JSON.stringify(text);
/** 'http 80/TCP'. */
const portText = ({ name, port, protocol }: ExportedPort): string =>
  `${name && `${name} `}${port}/${protocol}`;

/**
 * Families of which every endpoint has an address, in the order of the oldest export. A cluster that has none of them
 * is passed over: without it all others would go on. Exporters before Cilium 1.19 say nothing.
 */
function commonFamilies(ordered: readonly ExportedService[]): {
  merged: readonly IpFamily[];
  conflicts: Conflict[];
} {
  let merged: readonly IpFamily[] = [];
  const without: string[] = [];
  for (const { cluster, ipFamilies } of ordered) {
    if (ipFamilies.length === 0) continue;
    const common = merged.length ? merged.filter(each => ipFamilies.includes(each)) : ipFamilies;
    if (common.length) merged = common;
    else without.push(cluster);
  }
  const message = `ipFamilies: ${without.join(', ')} has none of ${merged.join(', ')}: its endpoints are not reached`;
  return { merged, conflicts: without.length ? [{ reason: 'IPFamilyConflict', message }] : [] };
}

/** Of these the oldest export's is in force. */
const compared: readonly {
  readonly reason: ConflictReason;
  readonly field: string;
  readonly of: (each: ExportedService, oldest: ExportedService) => unknown;
}[] = [
  { reason: 'TypeConflict', field: 'type', of: each => each.type },
  { reason: 'SessionAffinityConflict', field: 'sessionAffinity', of: each => each.sessionAffinity },
  {
    reason: 'SessionAffinityConfigConflict',
    field: 'sessionAffinityConfig.clientIP.timeoutSeconds',
    // Who has no affinity has no seconds: that is one conflict, not two.
    of: (each, oldest) =>
      each.sessionAffinity === oldest.sessionAffinity ? each.affinityTimeout : oldest.affinityTimeout,
  },
  { reason: 'AnnotationsConflict', field: 'exportedAnnotations', of: each => ordered(each.annotations) },
  { reason: 'LabelsConflict', field: 'exportedLabels', of: each => ordered(each.labels) },
  {
    reason: 'InternalTrafficPolicyConflict',
    field: 'internalTrafficPolicy',
    of: each => each.internalTrafficPolicy,
  },
  {
    reason: 'TrafficDistributionConflict',
    field: 'trafficDistribution',
    of: each => each.trafficDistribution,
  },
];

const ordered = (map: Readonly<Record<string, string>>): object =>
  Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));

function disagreement(
  { reason, field, of }: (typeof compared)[number],
  oldest: ExportedService,
  all: readonly ExportedService[],
): Conflict[] {
  const text = (each: ExportedService): string => JSON.stringify(of(each, oldest)) ?? 'nothing';
  const others = all.filter(each => text(each) !== text(oldest)).map(each => each.cluster);
  if (others.length === 0) return [];
  const message = `${field}: ${text(oldest)} of the oldest export, that of ${oldest.cluster}, is in force; ${others.length} of ${all.length} clusters have another: ${others.join(', ')}`;
  return [{ reason, message }];
}
