import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Failure } from '../failure.ts';
import { type CgroupLayout, cgroupLayout } from './cgroup.ts';
import { initProcess, insideNode } from './node.ts';
import { diskDirectory, stateDirectory } from './paths.ts';
import { type ClusterPlan, checkLabName, type LabPlan, type NodePlan } from './plan.ts';
import { run } from './process.ts';
import { requireRoot } from './root.ts';
import { type LabState, labNames, readState } from './state.ts';

/** A lab that is up, for programs and tests. It holds nothing open. */
export interface Lab {
  readonly plan: LabPlan;
  readonly state: LabState;
  readonly layout: CgroupLayout;
  readonly clusters: readonly LabCluster[];
  /** Throws Failure where there is none of that name. */
  cluster(name: string): LabCluster;
}

export interface LabCluster {
  readonly name: string;
  readonly plan: ClusterPlan;
  /** A kubeconfig of this cluster alone. */
  readonly kubeconfig: string;
  /** kubeconfig context in the user's own file. */
  readonly context: string;
  /** Runs kubectl and gives what it printed. Throws CommandFailed. */
  kubectl(...args: readonly string[]): Promise<string>;
  /** Runs a command on a node, as if logged in there. `node` is its name with or without the cluster's. */
  exec(node: string, ...command: readonly string[]): Promise<string>;
}

/** Opens a lab that is up. Throws Failure where it is not. */
export function openLab(name: string): Lab {
  checkLabName(name);
  // Only root may read what is known of a lab: to others each would seem to be gone.
  requireRoot();
  const state = readState(name);
  if (state === undefined) {
    const others = labNames();
    throw new Failure(`there is no lab ${name}`, {
      hint:
        others.length === 0
          ? 'isthmus lab up makes one'
          : `there are: ${others.join(', ')}; choose with --name`,
    });
  }
  const { plan } = state;
  const layout = cgroupLayout();
  const clusters = plan.clusters.map(cluster => openCluster(layout, plan, cluster));
  return {
    plan,
    state,
    layout,
    clusters,
    cluster(wanted) {
      const found = clusters.find(cluster => cluster.name === wanted);
      if (found !== undefined) return found;
      throw new Failure(`lab ${name} has no cluster ${wanted}`, {
        hint: `it has ${clusters.map(cluster => cluster.name).join(', ')}`,
      });
    },
  };
}

/** A kubeconfig of one cluster alone, for programs. */
export function clusterKubeconfig(lab: string, cluster: string): string {
  return join(stateDirectory(lab), `${cluster}.kubeconfig`);
}

/** Folder of the executables that the lab's nodes run, kubectl among them. */
export function executableFolder(lab: string): string {
  return join(diskDirectory(lab), 'bin');
}

/** The command line that runs something on a node. Throws Failure when the node is down. */
export function commandOnNode(layout: CgroupLayout, node: NodePlan, command: readonly string[]): string[] {
  const pid = initProcess(layout, node);
  if (pid === undefined) {
    throw new Failure(`node ${node.name} is down`, {
      hint: `isthmus lab fault restart ${node.name} starts it; what it said is in ${dirname(node.disk)}/${node.name}/console.log`,
    });
  }
  return insideNode(layout, node, pid, command);
}

function openCluster(layout: CgroupLayout, plan: LabPlan, cluster: ClusterPlan): LabCluster {
  const kubeconfig = clusterKubeconfig(plan.name, cluster.name);
  const kubectl = join(executableFolder(plan.name), 'kubectl');
  return {
    name: cluster.name,
    plan: cluster,
    kubeconfig,
    context: cluster.context,
    kubectl: (...args) =>
      run(existsSync(kubectl) ? kubectl : 'kubectl', ['--kubeconfig', kubeconfig, ...args]),
    exec: (wanted, ...command) => {
      const node = cluster.nodes.find(({ name }) => name === wanted || name === `${cluster.name}-${wanted}`);
      if (node === undefined) throw new Failure(`cluster ${cluster.name} has no node ${wanted}`);
      const [file, ...args] = commandOnNode(layout, node, command);
      return run(file!, args);
    },
  };
}
