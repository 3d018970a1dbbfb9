import type { Command } from 'commander';
import { type KubeClient, kubeFromConfig } from '../kube/client.ts';
import { kubeconfigContexts } from '../kube/kubeconfig.ts';
import { Failure } from './failure.ts';

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
}

/** The cluster that --context, --kubeconfig and --namespace choose. */
export function chooseCluster(command: Command): ClusterChoice {
  const { context, kubeconfig, namespace } = command.optsWithGlobals<GlobalOptions>();
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

/** A client of the chosen cluster's API server. */
export function clientOf({ context, kubeconfig }: Pick<ClusterChoice, 'context' | 'kubeconfig'>): KubeClient {
  return kubeFromConfig({ component: 'isthmus-cli', context, kubeconfig });
}
