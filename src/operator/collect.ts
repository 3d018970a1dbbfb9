import type { EndpointObjectRow } from '../api/crds/cilium-endpoint.ts';
import { type IdentityRow, unusedAnnotation } from '../api/crds/cilium-identity.ts';
import type { NodeRow } from '../api/crds/cilium-node.ts';
import type { KubeClient } from '../kube/client.ts';
import { pathOf, resources } from '../kube/resource.ts';
import { isConflict, isNotFound } from '../kube/status.ts';
import { judgeIdentities, type LivePod, orphanedEndpoints, TwiceSeen } from './garbage.ts';

type Rows<Row> = { values(): Iterable<Row>; get(key: string): Row | undefined };

/** What one round did, for metrics and the log. */
export interface Round {
  readonly kept: number;
  readonly removed: readonly string[];
  readonly failed: readonly Error[];
}

/** One round over CiliumIdentities: marks, unmarks, removes. An object changed meanwhile is left for the next round. */
export async function collectIdentities(
  client: KubeClient,
  identities: Rows<IdentityRow>,
  endpoints: Rows<EndpointObjectRow>,
  options: { range: { min: number; max: number }; timeout: number; now: number },
): Promise<Round> {
  const verdict = judgeIdentities(identities.values(), endpoints.values(), options);
  const pathTo = (row: IdentityRow) => pathOf(resources.ciliumIdentities, { name: String(row.identity) });
  const annotate = (row: IdentityRow, value: string | null) =>
    client.patch(pathTo(row), 'merge', {
      metadata: { resourceVersion: row.resourceVersion, annotations: { [unusedAnnotation]: value } },
    });
  const since = new Date(options.now).toISOString();
  const removed: string[] = [];
  const failed = await attempt([
    ...verdict.mark.map(row => () => annotate(row, since)),
    ...verdict.unmark.map(row => () => annotate(row, null)),
    ...verdict.remove.map(row => async () => {
      const { uid, resourceVersion } = row;
      await client.delete(pathTo(row), { preconditions: { uid, resourceVersion } });
      removed.push(String(row.identity));
    }),
  ]);
  return { kept: verdict.alive, removed, failed };
}

/** Rounds over CiliumEndpoints without a pod. */
export function endpointCollector(
  client: KubeClient,
  endpoints: Rows<EndpointObjectRow>,
  pods: Rows<LivePod>,
): () => Promise<Round> {
  const seen = new TwiceSeen();
  return async () => {
    const all = [...endpoints.values()];
    const gone = seen.confirm(orphanedEndpoints(all, key => pods.get(key)));
    return remove(client, all.length, gone, row => {
      const { namespace, name } = row;
      return { name: `${namespace}/${name}`, path: pathOf(resources.ciliumEndpoints, { namespace, name }) };
    });
  };
}

/** Rounds over CiliumNodes without a Node. */
export function nodeCollector(
  client: KubeClient,
  ciliumNodes: Rows<NodeRow>,
  nodes: Rows<{ name: string }>,
): () => Promise<Round> {
  const seen = new TwiceSeen();
  return async () => {
    const all = [...ciliumNodes.values()];
    const gone = seen.confirm(all.filter(each => !nodes.get(each.name)));
    return remove(client, all.length, gone, ({ name }) => ({
      name,
      path: pathOf(resources.ciliumNodes, { name }),
    }));
  };
}

async function remove<Row extends { readonly uid: string }>(
  client: KubeClient,
  all: number,
  gone: readonly Row[],
  where: (row: Row) => { name: string; path: string },
): Promise<Round> {
  const removed: string[] = [];
  const failed = await attempt(
    gone.map(row => async () => {
      const { name, path } = where(row);
      await client.delete(path, { preconditions: { uid: row.uid } });
      removed.push(name);
    }),
  );
  return { kept: all - removed.length, removed, failed };
}

/** Runs the tasks, eight at a time: an API server has better things to do. What is gone or newer is no failure. */
async function attempt(tasks: readonly (() => Promise<unknown>)[]): Promise<Error[]> {
  const failed: Error[] = [];
  const queue = tasks[Symbol.iterator]();
  const work = async (): Promise<void> => {
    for (const task of queue)
      await task().catch((error: unknown) => {
        if (!isConflict(error) && !isNotFound(error))
          failed.push(error instanceof Error ? error : new Error(String(error)));
      });
  };
  await Promise.all(Array.from({ length: 8 }, work));
  return failed;
}
