/** Where a global service prefers to send traffic, in the eyes of the cluster that reads the annotation. */
export type Affinity = 'none' | 'local' | 'remote';

/** How packets find one of a service's backends. */
export type Algorithm = 'random' | 'maglev';

/** What a Service's annotations say about its balancing, and about other clusters. */
export interface ServiceAnnotations {
  /** Backends of the same service in other clusters are used, and shared ones of ours may be. */
  readonly global: boolean;
  /** Own backends are exported to other clusters. False unless `global`. */
  readonly shared: boolean;
  readonly affinity: Affinity;
  /** undefined: what the node's configuration says. */
  readonly algorithm: Algorithm | undefined;
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
} as const;

const ALGORITHM = 'service.cilium.io/lb-algorithm';

const local: ServiceAnnotations = {
  global: false,
  shared: false,
  affinity: 'none',
  algorithm: undefined,
  problems: [],
};

/**
 * Reads the global service annotations as Cilium does: the new name wins over its alias, case is
 * ignored, `shared` (default true) and `affinity` (default none) count only on a global service.
 * Source: Cilium documentation, "Load-balancing & Service Discovery" of Cluster Mesh.
 */
export function parseServiceAnnotations(annotations: Readonly<Record<string, string>>): ServiceAnnotations {
  const problems: AnnotationProblem[] = [];
  const global = flag(find(annotations, names.global), false, problems);
  const algorithm = parseAlgorithm(find(annotations, [ALGORITHM]), problems);
  if (!global) return problems.length || algorithm ? { ...local, algorithm, problems } : local;
  const shared = flag(find(annotations, names.shared), true, problems);
  const affinity = parseAffinity(find(annotations, names.affinity), problems);
  return { global, shared, affinity, algorithm, problems };
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

function parseAlgorithm(found: Found | undefined, problems: AnnotationProblem[]): Algorithm | undefined {
  const value = found?.value.toLowerCase() ?? '';
  if (value === 'random' || value === 'maglev') return value;
  if (found && value !== '')
    problems.push(problem(found, 'expected random or maglev; the default of the configuration is in force'));
  return undefined;
}

function problem(found: Found, expectation: string): AnnotationProblem {
  return { ...found, message: `annotation ${found.annotation}: found "${found.value}", ${expectation}` };
}
