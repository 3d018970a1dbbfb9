/** The mesh etcd of a cluster, as somebody with one of its certificates sees it: etcdctl at its NodePort. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import tls from 'node:tls';
import * as z from 'zod';
import type { KeyPair } from '../../src/clustermesh/x509.ts';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import type { ClusterOfTest, Output } from './mesh.ts';

const Secret = z.object({ data: z.record(z.string(), z.string()) });

/** The texts of a Secret in kube-system. */
export async function secretOf(
  cluster: ClusterOfTest,
  name: string,
): Promise<Readonly<Record<string, string>>> {
  const { data } = await cluster.json(Secret, '-n', 'kube-system', 'get', 'secret', name);
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]),
  );
}

/** The certificate of a Secret of type kubernetes.io/tls. */
export async function certificateOf(cluster: ClusterOfTest, name: string): Promise<KeyPair> {
  const data = await secretOf(cluster, name);
  return { cert: data['tls.crt']!, key: data['tls.key']! };
}

export interface MeshEtcd extends AsyncDisposable {
  /** Runs etcdctl with a client certificate. */
  try(client: KeyPair, ...args: string[]): Promise<Output>;
  /** OpenSSL's code of the alert that ends a connection with this certificate, or with none; rejects if none does. */
  refusal(client: KeyPair | undefined): Promise<string>;
  /** Runs it as the administrator; rejects when it fails. Resolves to what it printed. */
  admin(...args: string[]): Promise<string>;
}

/** Reaches the mesh etcd of a cluster by its NodePort on a node, as other clusters do. */
export async function meshEtcd(cluster: ClusterOfTest, nodePort = 32_379): Promise<MeshEtcd> {
  const { etcdctl } = await ensureBinaries(['etcdctl'], {
    report: line => console.error(line),
  });
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-etcd-'));
  const ca = join(folder, 'ca.crt');
  writeFileSync(ca, (await secretOf(cluster, 'clustermesh-apiserver-server-cert'))['ca.crt']!);
  const admin = await certificateOf(cluster, 'clustermesh-apiserver-admin-cert');
  const nodeIp = 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}';
  // Of two families it has two.
  const [host = ''] = (await cluster.kubectl('get', 'nodes', '-o', nodeIp)).split(' ');
  // The server's certificate knows 127.0.0.1, and no address of a node.
  const relay = createServer(socket => {
    const etcd = connect(nodePort, host);
    for (const [from, to] of [
      [socket, etcd],
      [etcd, socket],
    ] as const)
      from.pipe(to).on('error', () => from.destroy());
  });
  relay.listen(0, '127.0.0.1');
  await once(relay, 'listening');
  const { port } = relay.address() as AddressInfo;
  const endpoint = `https://127.0.0.1:${port}`;
  let files = 0;
  const run = (client: KeyPair, args: readonly string[]): Promise<Output> => {
    const path = join(folder, `client-${files++}`);
    writeFileSync(`${path}.crt`, client.cert);
    writeFileSync(`${path}.key`, client.key, { mode: 0o600 });
    const identity = ['--cert', `${path}.crt`, '--key', `${path}.key`];
    const { promise, resolve } = Promise.withResolvers<Output>();
    const options = ['--endpoints', endpoint, '--cacert', ca, '--dial-timeout=20s', '--command-timeout=30s'];
    execFile(etcdctl, [...options, ...identity, ...args], (error, stdout, stderr) =>
      resolve({ stdout, stderr, code: error ? Number(error.code) || 1 : 0 }),
    );
    return promise;
  };
  return {
    try: (client, ...args) => run(client, args),
    refusal(client) {
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      const socket = tls.connect({
        host: '127.0.0.1',
        port,
        ca: readFileSync(ca),
        ALPNProtocols: ['h2'],
        ...client,
      });
      socket.setTimeout(20_000, () => socket.destroy(new Error('the server keeps the connection')));
      // The server's settings: it has accepted us.
      socket.once('data', () => socket.destroy(new Error('the server has accepted the certificate')));
      socket.once('error', (error: NodeJS.ErrnoException) =>
        error.code?.startsWith('ERR_SSL_') ? resolve(error.code) : reject(error),
      );
      return promise;
    },
    async admin(...args) {
      const { stdout, stderr, code } = await run(admin, args);
      if (code !== 0) throw new Error(`etcdctl ${args.join(' ')} ended with ${code}: ${stderr || stdout}`);
      return stdout;
    },
    async [Symbol.asyncDispose]() {
      relay.close();
      rmSync(folder, { recursive: true });
    },
  };
}
