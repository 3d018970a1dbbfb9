import { withPort } from './address.ts';
import { describeFault } from './fault.ts';
import { initProcess, nodesOf } from './node.ts';
import { targetProcesses } from './node-process.ts';
import type { Lab } from './open-lab.ts';
import { addressesOf } from './plan.ts';
import { type ProcessName, processNames } from './target.ts';

/** What `isthmus lab status` shows, as data. */
export interface LabStatus {
  readonly name: string;
  /** `up` and `down` without a command at work mean that it was left by a crash. */
  readonly phase: 'up' | 'ready' | 'down';
  readonly kubeconfig: string | undefined;
  readonly clusters: readonly {
    readonly name: string;
    readonly context: string;
    readonly server: string;
    readonly podSubnet: string;
    readonly serviceSubnet: string;
    readonly nodes: readonly {
      readonly name: string;
      readonly role: string;
      readonly address: string;
      readonly state: 'running' | 'down';
      /** What runs on it besides other pods. */
      readonly processes: readonly ProcessName[];
      readonly disk: string;
    }[];
  }[];
  readonly faults: readonly string[];
}

/** Looks at a lab's processes, not at what the API says of them. */
export function labStatus({ plan, state, layout }: Lab): LabStatus {
  const all = nodesOf(plan);
  return {
    name: plan.name,
    phase: state.phase,
    kubeconfig: state.kubeconfig,
    clusters: plan.clusters.map(cluster => ({
      name: cluster.name,
      context: cluster.context,
      server: `https://${withPort(cluster.apiAddress, 6443)}`,
      podSubnet: cluster.podSubnet,
      serviceSubnet: cluster.serviceSubnet,
      nodes: all
        .filter(each => each.cluster === cluster)
        .map(({ node }) => ({
          name: node.name,
          role: node.role,
          address: addressesOf(node).join(' '),
          state: initProcess(layout, node) === undefined ? 'down' : 'running',
          processes: processNames.filter(
            process => targetProcesses(layout, { kind: 'process', cluster, node, process }).length > 0,
          ),
          disk: node.disk,
        })),
    })),
    faults: state.faults.map(describeFault),
  };
}
