import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { Failure } from '../failure.ts';
import { type ClusterAccess, inClusterAccess } from '../kube/access.ts';
import { KubeClient } from '../kube/client.ts';
import { kubeconfigAccess, kubeconfigContexts } from '../kube/kubeconfig.ts';

/** The options that every command understands, as commander gives them. */
export interface GlobalOptions {
  readonly context?: string;
  readonly kubeconfig?: string;
  readonly namespace: string;
}

/** One cluster as the command line names it. */
export interface ClusterChoice {
  /** Name of the context in the kubeconfig. */
  readonly context: string;
  /** As given with --kubeconfig; undefined means $KUBECONFIG or ~/.kube/config. */
  readonly kubeconfig: string | undefined;
  /** Namespace where Isthmus is installed. */
  readonly namespace: string;
  /** The cluster that this process runs in as a pod; there is no kubeconfig then. */
  readonly inCluster?: boolean;
}

/** The cluster that --context, --kubeconfig and --namespace choose. */
export function chooseCluster(command: Command): ClusterChoice {
  const { context, kubeconfig, namespace } = command.optsWithGlobals<GlobalOptions>();
  if (context === undefined && kubeconfig === undefined && isPod())
    return { context: 'of this pod', kubeconfig, namespace, inCluster: true };
  return { context: findContext(context, kubeconfig), kubeconfig, namespace };
}

/**
 * The kubeconfig's context of a name: exactly so, else `isthmus-<name>` (as `isthmus lab` writes it), else
 * `kind-<name>`. Without a name: the current context.
 */
export function findContext(name: string | undefined, kubeconfig?: string): string {
  let contexts: { readonly current: string | undefined; readonly names: readonly string[] };
  try {
    contexts = kubeconfigContexts(kubeconfig);
  } catch (error) {
    throw new Failure(error instanceof Error ? error.message : String(error), {
      hint: 'name a kubeconfig with --kubeconfig or $KUBECONFIG; `isthmus lab up` makes clusters to try',
      cause: error,
    });
  }
  const { current, names } = contexts;
  const there = names.length === 0 ? 'there are none' : `there are: ${names.join(', ')}`;
  if (name === undefined) {
    if (current !== undefined && names.includes(current)) return current;
    throw new Failure('the kubeconfig has no current context', {
      hint: `choose one with --context; ${there}`,
    });
  }
  const found = [name, `isthmus-${name}`, `kind-${name}`].find(each => names.includes(each));
  if (found !== undefined) return found;
  throw new Failure(`the kubeconfig has no context ${name}, isthmus-${name} or kind-${name}`, {
    hint: there,
  });
}

/** How to reach the chosen cluster's API server, and as whom. */
export function accessOf({ context, kubeconfig, inCluster }: ClusterChoice): ClusterAccess {
  return inCluster ? inClusterAccess() : kubeconfigAccess({ context, kubeconfig });
}

/** A client of the chosen cluster's API server. */
export function clientOf(cluster: ClusterChoice): KubeClient {
  return new KubeClient(accessOf(cluster), { component: 'isthmus-cli' });
}

function isPod(): boolean {
  const { KUBERNETES_SERVICE_HOST, KUBECONFIG } = process.env;
  if (KUBERNETES_SERVICE_HOST === undefined || KUBECONFIG !== undefined) return false;
  return !existsSync(join(homedir(), '.kube', 'config'));
}
