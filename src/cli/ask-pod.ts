import { Failure } from '../failure.ts';
import { execInPod } from '../kube/exec.ts';
import { KubeError } from '../kube/status.ts';
import type { IsthmusPod } from './isthmus-pods.ts';
import { accessOf, type ClusterChoice } from './kubeconfig.ts';
import { lastWords } from './last-words.ts';

/** A process of ours in a cluster. */
export interface AskedPod {
  readonly cluster: ClusterChoice;
  readonly pod: Pick<IsthmusPod, 'namespace' | 'name'>;
  /** Milliseconds after which nobody waits any longer: the node may be dead. */
  readonly timeout: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs `isthmus …` in an agent's pod; resolves to what it printed.
 * Throws Failure that says why the command failed or could not be run, KubeError where the API server refuses.
 */
export const askAgent = (asked: AskedPod, ...args: readonly string[]): Promise<string> =>
  ask(asked, 'agent', ['isthmus', ...args]);

/** The same of a command of clustermesh-apiserver, beside the one that serves. */
export const askApiserver = (asked: AskedPod, ...args: readonly string[]): Promise<string> =>
  ask(asked, 'apiserver', ['/usr/bin/node', '/isthmus/dist/clustermesh-apiserver.mjs', ...args]);

async function ask(
  { cluster, pod, timeout, signal }: AskedPod,
  container: string,
  command: readonly string[],
): Promise<string> {
  const { namespace, name } = pod;
  const patience = AbortSignal.timeout(timeout);
  const options = {
    namespace,
    pod: name,
    container,
    command,
    signal: signal ? AbortSignal.any([signal, patience]) : patience,
  };
  const { stdout, stderr, exitCode } = await execInPod(accessOf(cluster), options).catch((error: unknown) => {
    signal?.throwIfAborted();
    if (error instanceof KubeError || !(error instanceof Error)) throw error;
    throw new Failure(patience.aborted ? `no answer after ${timeout / 1000} s` : error.message);
  });
  if (exitCode === 0) return stdout;
  throw new Failure(complaint(stderr || stdout, exitCode));
}

/** Why a command of ours failed: its sentence without the hint, which is for who runs it; or what it logged last. */
export function complaint(said: string, exitCode: number): string {
  return lastWords(said).replace(/^Error: /, '') || `exit code ${exitCode}`;
}
