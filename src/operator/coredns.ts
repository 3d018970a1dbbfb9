/** Keeps the cluster's CoreDNS answering for the clusterset. */
import type { KubeClient } from '../kube/client.ts';
import { ConfigMap } from '../kube/objects.ts';
import { reflect } from '../kube/reflect.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { restartDeployment } from '../kube/restart.ts';
import { logOf } from '../log.ts';
import { type Domains, withClusterset } from '../mcsapi/corefile.ts';
import { Reconciler } from '../table/reconciler.ts';
import { Table } from '../table/table.ts';

const log = logOf('coredns');

export interface CorednsOptions {
  readonly client: KubeClient;
  readonly namespace: string;
  readonly configMap: string;
  readonly deployment: string;
  readonly domains: Domains;
  readonly signal: AbortSignal;
}

/**
 * Follows the ConfigMap with the Corefile, adds the clusterset's zone where it is missing, and restarts CoreDNS, which
 * may not be told to read its file again by itself. To be started once the definition of ServiceImports is there:
 * CoreDNS waits for it. Resolves when the signal aborts.
 */
export async function configureCoredns(options: CorednsOptions): Promise<void> {
  const { client, namespace, configMap, deployment, domains, signal } = options;
  const path = pathOf(resources.configMaps, { namespace });
  /** Corefiles that lack the zone. */
  const lacking = new Table<{ readonly corefile: string; readonly version: string }>({
    name: 'corefile',
    keyOf: () => configMap,
  });
  new Reconciler(
    lacking,
    {
      async apply(batch) {
        for (const { row } of batch) {
          if (!row) continue;
          await client.patch(pathOf(resources.configMaps, { namespace, name: configMap }), 'merge', {
            metadata: { resourceVersion: row.version },
            data: { Corefile: row.corefile },
          });
          await restartDeployment(client, { namespace, name: deployment });
          log.info({ configMap, clusterset: domains.clusterset }, 'CoreDNS answers for the clusterset');
        }
        return new Map();
      },
    },
    { signal, onError: (_, error) => log.warn({ configMap, error }, 'cannot be changed') },
  );
  const watch = reflect(client, {
    path,
    fieldSelector: `metadata.name=${configMap}`,
    schema: ConfigMap,
    table: lacking,
    toRow: ({ metadata, data }) => {
      const corefile = data?.Corefile ?? '';
      const wanted = withClusterset(corefile, domains);
      return wanted === corefile ? undefined : { corefile: wanted, version: metadata.resourceVersion };
    },
    signal,
    onBad: ({ error }) => log.warn({ configMap, error }, 'left as it is: add the zone by hand'),
    onError: error => log.warn({ configMap, error }, 'watch'),
  });
  await watch.done;
}
