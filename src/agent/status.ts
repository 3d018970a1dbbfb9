import type { AgentStatus } from '../api/agent-status.ts';
import type { Reflection } from '../kube/reflect.ts';
import type { ReconcilerStatus } from '../table/reconciler.ts';
import type { ReadonlyTable } from '../table/table.ts';
import type { Endpoint } from './endpoint.ts';
import type { Path, RoutingMode } from './paths.ts';
import type { ServiceProblem } from './services.ts';

/** A remote cluster as the agent sees it. */
export interface ClusterHealth {
  readonly name: string;
  readonly ready: boolean;
  readonly state: string;
  /** One line for people. */
  readonly status: string;
  readonly mirror?: string | undefined;
  readonly disconnectedAge: number | undefined;
  readonly lastOutage: { readonly seconds: number; readonly age: number } | undefined;
  readonly heartbeatAge: number | undefined;
  readonly deadAge: number | undefined;
  readonly unheardBy: readonly string[];
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
}

export interface StatusInputs {
  readonly version: string;
  readonly node: string;
  /** Why the agent does not do its work yet; undefined when it does. */
  readonly starting: string | undefined;
  readonly reflections: readonly Pick<Reflection, 'path' | 'connected' | 'heard' | 'failing' | 'bad'>[];
  readonly reconcilers: Readonly<Record<string, ReconcilerStatus>>;
  readonly endpoints: ReadonlyTable<Endpoint> | undefined;
  readonly datapath: NonNullable<AgentStatus['datapath']>;
  readonly routingMode: RoutingMode;
  readonly paths: ReadonlyTable<Path> | undefined;
  readonly problems: Iterable<ServiceProblem>;
  readonly clusters: readonly ClusterHealth[];
  readonly unreachableNodes: NonNullable<AgentStatus['unreachableNodes']>;
  /** This node hears none of several others. */
  readonly hearsNobody: boolean;
  /** Seconds for which the API server has not answered; undefined while it does. */
  readonly apiServerSilent: number | undefined;
  /** Further things that are wrong for good: a device that is gone, a map that is full. */
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** The agent's account of itself. Pure. */
export function agentStatus(inputs: StatusInputs): AgentStatus {
  const errors: string[] = [];
  const warnings: string[] = [];
  if (inputs.starting !== undefined) errors.push(`not ready: ${inputs.starting}`);
  for (const { path, failing, bad, heard } of inputs.reflections) {
    if (failing) errors.push(`${path} cannot be followed${age(heard, inputs.now)}: ${failing.message}`);
    for (const [object, error] of bad) warnings.push(`${path} ${object} is left out: ${error.message}`);
  }
  for (const [name, { failing }] of Object.entries(inputs.reconcilers))
    for (const [key, error] of failing) errors.push(`${name} ${key} cannot be written: ${error.message}`);
  for (const { service, message } of inputs.problems) warnings.push(`service ${service}: ${message}`);
  for (const cluster of inputs.clusters) {
    errors.push(...cluster.errors.map(each => `cluster ${cluster.name}: ${each}`));
    warnings.push(...cluster.warnings.map(each => `cluster ${cluster.name}: ${each}`));
  }
  if (inputs.hearsNobody)
    warnings.push('this node hears none of the nodes that it probes, and says nothing of them');
  if (inputs.apiServerSilent !== undefined)
    warnings.push(
      `the API server has not answered for ${Math.round(inputs.apiServerSilent)} s: this node judges alone which nodes and clusters are dead`,
    );
  const paths = [...(inputs.paths?.values() ?? [])];
  const direct = paths.filter(each => each.direct).length;
  const endpoints = [...(inputs.endpoints?.values() ?? [])].filter(each => each.state !== 'deleting');
  return {
    version: inputs.version,
    node: inputs.node,
    errors: [...errors, ...inputs.errors],
    warnings: [...warnings, ...inputs.warnings],
    endpoints: {
      total: endpoints.length,
      ready: endpoints.filter(each => each.state === 'ready').length,
    },
    datapath: { ...inputs.datapath },
    routing: { mode: inputs.routingMode, direct, tunnel: paths.length - direct },
    unreachableNodes: inputs.unreachableNodes,
    clusters: inputs.clusters.map(({ errors: _, ...each }) => ({
      ...each,
      unheardBy: [...each.unheardBy],
      warnings: [...each.warnings],
    })),
    reconcilers: Object.fromEntries(
      Object.entries(inputs.reconcilers).map(([name, { pending, failing, applied }]) => [
        name,
        { pending, failing: failing.size, applied },
      ]),
    ),
    sources: inputs.reflections.map(({ path, connected, heard }) => ({ path, connected, heard })),
  };
}

/** How long ago a source was last heard, once that is worth saying. */
function age(heard: number, now: number): string {
  if (heard === 0) return '';
  const seconds = Math.round((now - heard) / 1000);
  return seconds < 5 ? '' : ` (last heard ${seconds} s ago)`;
}
