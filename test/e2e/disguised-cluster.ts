/** A cluster that seems to have other settings than it has, for commands that must refuse these. */
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import * as z from 'zod';
import { KubeClient } from '../../src/kube/client.ts';
import { kubeconfigAccess } from '../../src/kube/kubeconfig.ts';
import { KubeError } from '../../src/kube/status.ts';

const Named = z.array(z.looseObject({ name: z.string() }));
const Kubeconfig = z.looseObject({ contexts: Named, clusters: Named, users: Named });
const ConfigMap = z.looseObject({ data: z.record(z.string(), z.string()) });

/**
 * The cluster of context `isthmus-<name>` again, read-only and with some settings of isthmus-config replaced:
 * context `twin` of a kubeconfig that has all others, too.
 */
export async function disguised(
  name: string,
  settings: Readonly<Record<string, string>>,
): Promise<AsyncDisposable & { readonly kubeconfig: string }> {
  const client = new KubeClient(kubeconfigAccess({ context: `isthmus-${name}`, kubeconfig: undefined }), {
    component: 'isthmus-test',
  });
  const answer = async (path: string): Promise<unknown> => {
    if (!path.endsWith('/configmaps/isthmus-config')) return client.get(path, z.unknown());
    const config = await client.get(path, ConfigMap);
    return { ...config, data: { ...config.data, ...settings } };
  };
  const server = createServer((request, response) => {
    const json = { 'content-type': 'application/json' };
    if (request.method !== 'GET') return void response.writeHead(405, json).end('{}');
    answer(request.url ?? '/').then(
      found => response.writeHead(200, json).end(JSON.stringify(found)),
      (error: unknown) => {
        const [code, body] =
          error instanceof KubeError ? [error.code, error.status] : [500, { message: String(error) }];
        response.writeHead(code, json).end(JSON.stringify(body ?? {}));
      },
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-twin-'));
  const kubeconfig = join(folder, 'kubeconfig');
  const present = Kubeconfig.parse(parse(readFileSync(process.env.KUBECONFIG!, 'utf8')));
  writeFileSync(
    kubeconfig,
    JSON.stringify({
      ...present,
      contexts: [...present.contexts, { name: 'twin', context: { cluster: 'twin', user: 'twin' } }],
      clusters: [...present.clusters, { name: 'twin', cluster: { server: `http://127.0.0.1:${port}` } }],
      users: [...present.users, { name: 'twin', user: {} }],
    }),
  );
  return {
    kubeconfig,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
      client.close();
      rmSync(folder, { recursive: true });
    },
  };
}
