/** Where a global service prefers to send traffic, in the eyes of the cluster that reads the annotation. */
export type Affinity = 'none' | 'local' | 'remote';

/** How packets find one of a service's backends. */
export type Algorithm = 'random' | 'maglev';

/**
 * How a client outside reaches a backend of another node: under its own address, and is answered from there (direct
 * server return), or under this node's, and is answered through it.
 */
export type ForwardingMode = 'dsr' | 'snat';

/** Kinds of addresses of which a Service can be restricted to one. */
export type ExposedType = (typeof exposedTypes)[number];
const exposedTypes = ['ClusterIP', 'NodePort', 'LoadBalancer'] as const;

/** Whether loadBalancerSourceRanges says who may connect, or who may not. */
export type SourceRangesPolicy = 'allow' | 'deny';

/** What a Service's annotations say about its balancing, and about other clusters. */
export interface ServiceAnnotations {
  /** Backends of the same service in other clusters are used, and shared ones of ours may be. */
  readonly global: boolean;
  /** Own backends are exported to other clusters. False unless `global`. */
  readonly shared: boolean;
  readonly affinity: Affinity;
  /** EndpointSlices of other clusters' endpoints are wanted, or are not; undefined: as the kind of service says. */
  readonly syncSlices?: boolean;
  /** How traffic is divided between clusters beyond `affinity`. Nothing set unless `global`. */
  readonly failover: Failover;
  /** undefined: what the node's configuration says. */
  readonly algorithm: Algorithm | undefined;
  /** undefined: what the node's configuration says. */
  readonly forwardingMode: ForwardingMode | undefined;
  /** The only kind of address that is served, besides external IPs; undefined: all that the Service's type has. */
  readonly exposedType: ExposedType | undefined;
  readonly sourceRangesPolicy: SourceRangesPolicy;
  /** Values that could not be understood; the default is in force for each. Empty when all is well. */
  readonly problems: readonly AnnotationProblem[];
}

/** An annotation value nobody can obey: becomes an event on the object and a warning in status. */
export interface AnnotationProblem {
  readonly annotation: string;
  readonly value: string;
  readonly message: string;
}

const names = {
  global: ['service.cilium.io/global', 'io.cilium/global-service'],
  shared: ['service.cilium.io/shared', 'io.cilium/shared-service'],
  affinity: ['service.cilium.io/affinity', 'io.cilium/service-affinity'],
  syncSlices: ['service.cilium.io/global-sync-endpoint-slices'],
} as const;

/** `service.isthmus.dev/…`: what a user may say of the clusters that serve a global service. */
export interface Failover {
  /** `affinity-order`: names of clusters or of regions, the preferred first. */
  readonly order?: readonly string[] | undefined;
  /** `weights`: share of each cluster by name, relative to the others; who is not named is the last resort. */
  readonly weights?: ReadonlyMap<string, number> | undefined;
  /** `min-healthy-local`: below so many healthy backends of the own cluster its share shrinks by degree. */
  readonly minHealthyLocal?: Threshold | undefined;
  /** `spill: capacity`: no cluster takes over more than its ready backends are of the own cluster's. */
  readonly spillByCapacity?: boolean | undefined;
}

/** A number of backends, or a percentage of them. */
export interface Threshold {
  readonly value: number;
  readonly unit: 'backends' | 'percent';
}

/** Annotations of {@link Failover}. */
export const failoverAnnotations = {
  order: 'service.isthmus.dev/affinity-order',
  weights: 'service.isthmus.dev/weights',
  minHealthyLocal: 'service.isthmus.dev/min-healthy-local',
  spill: 'service.isthmus.dev/spill',
} as const;

/** Annotations for which one service differs from the node's configuration. */
export const balancingAnnotations = {
  algorithm: 'service.cilium.io/lb-algorithm',
  forwardingMode: 'service.cilium.io/forwarding-mode',
  exposedType: 'service.cilium.io/type',
  sourceRangesPolicy: 'service.cilium.io/src-ranges-policy',
} as const;

const local: ServiceAnnotations = {
  global: false,
  shared: false,
  affinity: 'none',
  failover: {},
  algorithm: undefined,
  forwardingMode: undefined,
  exposedType: undefined,
  sourceRangesPolicy: 'allow',
  problems: [],
};

/**
 * Reads the global service annotations as Cilium does: the new name wins over its alias, case is
 * ignored, `shared` (default true) and `affinity` (default none) count only on a global service.
 * Source: Cilium documentation, "Load-balancing & Service Discovery" of Cluster Mesh, and "Kubernetes Without
 * kube-proxy" for the others.
 */
export function parseServiceAnnotations(annotations: Readonly<Record<string, string>>): ServiceAnnotations {
  const problems: AnnotationProblem[] = [];
  const global = flag(find(annotations, names.global), false, problems);
  const balancing = parseBalancing(annotations, problems);
  if (!global) return problems.length || balancing ? { ...local, ...balancing, problems } : local;
  const shared = flag(find(annotations, names.shared), true, problems);
  const affinity = parseAffinity(find(annotations, names.affinity), problems);
  const sync = find(annotations, names.syncSlices);
  const syncSlices = sync && flag(sync, false, problems);
  const failover = parseFailover(annotations, problems);
  return {
    ...local,
    ...balancing,
    global,
    shared,
    affinity,
    ...(syncSlices === undefined ? {} : { syncSlices }),
    failover,
    problems,
  };
}

interface Found {
  readonly annotation: string;
  readonly value: string;
}

function find(
  annotations: Readonly<Record<string, string>>,
  candidates: readonly string[],
): Found | undefined {
  for (const annotation of candidates) {
    const value = annotations[annotation];
    if (value !== undefined) return { annotation, value };
  }
  return undefined;
}

function flag(found: Found | undefined, fallback: boolean, problems: AnnotationProblem[]): boolean {
  if (!found) return fallback;
  const value = found.value.toLowerCase();
  if (value !== 'true' && value !== 'false')
    problems.push(problem(found, 'expected true or false; it counts as false'));
  return value === 'true';
}

function parseAffinity(found: Found | undefined, problems: AnnotationProblem[]): Affinity {
  const value = found?.value.toLowerCase() ?? '';
  if (value === 'local' || value === 'remote' || value === 'none') return value;
  // An empty value is how some tools unset an annotation.
  if (found && value !== '')
    problems.push(problem(found, 'expected local, remote or none; none is in force'));
  return 'none';
}

function parseFailover(
  annotations: Readonly<Record<string, string>>,
  problems: AnnotationProblem[],
): Failover {
  const read = <T>(
    annotation: string,
    parse: (value: string) => T | undefined,
    expected: string,
  ): T | undefined => {
    const found = find(annotations, [annotation]);
    // An empty value is how some tools unset an annotation.
    if (!found || found.value.trim() === '') return undefined;
    const parsed = parse(found.value.trim());
    if (parsed === undefined) problems.push(problem(found, `expected ${expected}; it is not obeyed`));
    return parsed;
  };
  return {
    order: read(
      failoverAnnotations.order,
      parseOrder,
      'names of clusters or regions, each once, as us-east,us-west,eu',
    ),
    weights: read(
      failoverAnnotations.weights,
      parseWeights,
      'clusters with whole numbers from 0 to 1000, not all 0, each once, as us=3,eu=1',
    ),
    minHealthyLocal: read(
      failoverAnnotations.minHealthyLocal,
      parseThreshold,
      'a percentage from 1% to 100%, or a number of backends from 1',
    ),
    spillByCapacity: read(
      failoverAnnotations.spill,
      value => (value === 'capacity' ? true : value === 'all' ? false : undefined),
      'capacity or all',
    ),
  };
}

const CLUSTER = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;
/** A cluster's name, or a region's: that is the value of a label, which may have capitals, as OpenStack's RegionOne. */
const CLUSTER_OR_REGION = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;

function parseOrder(value: string): string[] | undefined {
  const names = value.split(',').map(each => each.trim());
  return names.every(each => CLUSTER_OR_REGION.test(each)) && new Set(names).size === names.length
    ? names
    : undefined;
}

function parseWeights(value: string): Map<string, number> | undefined {
  const weights = new Map<string, number>();
  for (const part of value.split(',')) {
    const [, name, text] = /^\s*([^=:\s]+)\s*[=:]\s*(\d{1,4})\s*$/.exec(part) ?? [];
    if (name === undefined || !CLUSTER.test(name) || Number(text) > 1000 || weights.has(name))
      return undefined;
    weights.set(name, Number(text));
  }
  return [...weights.values()].some(each => each > 0) ? weights : undefined;
}

function parseThreshold(value: string): Threshold | undefined {
  const [, digits, percent] = /^(\d{1,6})(%?)$/.exec(value) ?? [];
  const number = Number(digits);
  if (digits === undefined || number < 1 || (percent && number > 100)) return undefined;
  return { value: number, unit: percent ? 'percent' : 'backends' };
}

type Balancing = Pick<
  ServiceAnnotations,
  'algorithm' | 'forwardingMode' | 'exposedType' | 'sourceRangesPolicy'
>;

/** What {@link balancingAnnotations} say; undefined where there is none of them, as on most services. */
function parseBalancing(
  annotations: Readonly<Record<string, string>>,
  problems: AnnotationProblem[],
): Balancing | undefined {
  if (!Object.values(balancingAnnotations).some(each => annotations[each] !== undefined)) return undefined;
  const oneOf = <T extends string>(
    annotation: string,
    allowed: readonly T[],
    fallback: string,
    read = (text: string) => text.toLowerCase(),
  ): T | undefined => {
    const found = find(annotations, [annotation]);
    const value = read(found?.value ?? '');
    const known = allowed.find(each => each === value);
    // An empty value is how some tools unset an annotation.
    if (found && !known && value !== '')
      problems.push(
        problem(
          found,
          `expected ${allowed.slice(0, -1).join(', ')} or ${allowed.at(-1)}; ${fallback} in force`,
        ),
      );
    return known;
  };
  const configured = 'the default of the configuration is';
  const { algorithm, forwardingMode, exposedType, sourceRangesPolicy } = balancingAnnotations;
  return {
    algorithm: oneOf(algorithm, ['random', 'maglev'], configured),
    forwardingMode: oneOf(forwardingMode, ['dsr', 'snat'], configured),
    exposedType: oneOf(exposedType, exposedTypes, 'all that the type of the service has is', text => text),
    sourceRangesPolicy: oneOf(sourceRangesPolicy, ['allow', 'deny'], 'allow is') ?? 'allow',
  };
}

function problem(found: Found, expectation: string): AnnotationProblem {
  return { ...found, message: `annotation ${found.annotation}: found "${found.value}", ${expectation}` };
}
