import { parse as parseYaml } from 'yaml';
import * as z from 'zod';
import { Failure } from '../failure.ts';
import type { KubeClient } from '../kube/client.ts';
import { ConfigMap } from '../kube/objects.ts';
import { isForbidden, isNotFound } from '../kube/status.ts';

/** An address of the API server that nodes reach without any service. */
export interface ApiServer {
  readonly host: string;
  readonly port: number;
  /** Where it was read. */
  readonly source: 'kube-public/cluster-info' | 'the kubeconfig';
}

const ClusterInfo = z.object({
  clusters: z.tuple([z.object({ cluster: z.object({ server: z.string() }) })]),
});

/**
 * The API server's address for the chart's k8sServiceHost and k8sServicePort: what kubeadm and kind publish for
 * joining nodes, else the kubeconfig's, if it means the same machine everywhere.
 */
export async function findApiServer(client: KubeClient): Promise<ApiServer> {
  const published = await publishedServer(client);
  if (published !== undefined)
    return { ...hostAndPort(new URL(published)), source: 'kube-public/cluster-info' };
  const own = hostAndPort(client.server);
  if (!isLoopback(own.host)) return { ...own, source: 'the kubeconfig' };
  throw new Failure(
    `the kubeconfig's API server ${client.server.origin} is reached only from this machine, and the cluster publishes no other`,
    {
      hint: 'set k8sServiceHost and k8sServicePort to an address that the nodes reach: --set k8sServiceHost=… --set k8sServicePort=…',
    },
  );
}

async function publishedServer(client: KubeClient): Promise<string | undefined> {
  try {
    const info = await client.get('/api/v1/namespaces/kube-public/configmaps/cluster-info', ConfigMap);
    const kubeconfig = ClusterInfo.safeParse(parseYaml(info.data?.kubeconfig ?? ''));
    return kubeconfig.success ? kubeconfig.data.clusters[0].cluster.server : undefined;
  } catch (error) {
    if (isNotFound(error) || isForbidden(error)) return undefined;
    throw error;
  }
}

function hostAndPort(url: URL): { readonly host: string; readonly port: number } {
  const port = url.port === '' ? (url.protocol === 'http:' ? 80 : 443) : Number(url.port);
  return { host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port };
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '0.0.0.0' || /^127\./.test(host);
}
