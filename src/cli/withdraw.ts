import { execInPod } from '../kube/exec.ts';
import { isthmusPods } from './isthmus-pods.ts';
import { accessOf, type ClusterChoice, clientOf } from './kubeconfig.ts';

/**
 * Has clustermesh-apiserver take back what this cluster exports, so that the others forget its services, pods and
 * nodes at once instead of keeping the last they heard. Nothing happens where there is none; what cannot be
 * withdrawn is named.
 */
export async function withdrawExports(
  cluster: ClusterChoice,
  report: (line: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  const client = clientOf(cluster);
  try {
    const pods = await isthmusPods(client, cluster.namespace);
    const apiservers = pods.filter(pod => pod.component === 'clustermesh-apiserver');
    await Promise.all(
      apiservers.map(async pod => {
        const failed = (reason: string): void =>
          report(
            `⚠️  ${pod.name} did not withdraw what this cluster exports (${reason}): other clusters keep it until they are disconnected`,
          );
        if (!pod.running) return failed('it does not run');
        try {
          const { exitCode, stdout, stderr } = await execInPod(accessOf(cluster), {
            namespace: pod.namespace,
            pod: pod.name,
            container: 'apiserver',
            command: ['/usr/bin/node', '/isthmus/dist/clustermesh-apiserver.mjs', 'withdraw'],
            signal: signal
              ? AbortSignal.any([signal, AbortSignal.timeout(30_000)])
              : AbortSignal.timeout(30_000),
          });
          if (exitCode !== 0) failed((stderr || stdout).trim().split('\n').at(-1) ?? `exit code ${exitCode}`);
        } catch (error) {
          signal?.throwIfAborted();
          failed(error instanceof Error ? error.message : String(error));
        }
      }),
    );
  } finally {
    client.close();
  }
}
