import { askApiserver } from './ask-pod.ts';
import { isthmusPods } from './isthmus-pods.ts';
import { type ClusterChoice, clientOf } from './kubeconfig.ts';

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
          await askApiserver({ cluster, pod, timeout: 30_000, signal }, 'withdraw');
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
