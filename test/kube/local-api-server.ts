import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { accessSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { ClusterAccess } from '../../src/kube/access.ts';
import { KubeClient } from '../../src/kube/client.ts';
import { freePort } from '../free-port.ts';

/** Path of an executable: the lab's cache, or the PATH. Undefined when there is none. */
export function findBinary(name: string): string | undefined {
  const cache = join(process.env.ISTHMUS_CACHE ?? join(homedir(), '.cache/isthmus'), 'bin');
  return [cache, ...(process.env.PATH ?? '').split(delimiter)]
    .map(directory => join(directory, name))
    .find(path => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** Why no API server can be started here, or undefined: for `test(…, { skip: missingBinaries() })`. */
export function missingBinaries(): string | undefined {
  const missing = ['etcd', 'kube-apiserver'].filter(name => !findBinary(name));
  return missing.length
    ? `no ${missing.join(' and no ')} in the cache: run \`isthmus lab images\` once`
    : undefined;
}

/** A real kube-apiserver with its etcd on loopback, state in a temporary folder: no controllers, no nodes. */
export class LocalApiServer implements AsyncDisposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'isthmus-api-'));
  readonly #children: ChildProcess[] = [];
  readonly #clients: KubeClient[] = [];
  #port = 0;
  #etcdPort = 0;

  static async start(): Promise<LocalApiServer> {
    const server = new LocalApiServer();
    try {
      const [etcd, peer, api] = await Promise.all([freePort(), freePort(), freePort()]);
      server.#port = api;
      server.#etcdPort = etcd;
      server.#spawn('etcd', [
        `--data-dir=${join(server.#directory, 'etcd')}`,
        `--listen-client-urls=http://127.0.0.1:${etcd}`,
        `--advertise-client-urls=http://127.0.0.1:${etcd}`,
        `--listen-peer-urls=http://127.0.0.1:${peer}`,
        '--unsafe-no-fsync',
      ]);
      const keys = generateKeyPairSync('rsa', {
        modulusLength: 2048,
        publicKeyEncoding: { type: 'spki', format: 'pem' },
        privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
      });
      writeFileSync(join(server.#directory, 'sa.pub'), keys.publicKey);
      writeFileSync(join(server.#directory, 'sa.key'), keys.privateKey, { mode: 0o600 });
      writeFileSync(
        join(server.#directory, 'tokens.csv'),
        'admin,admin,1,system:masters\nagent,system:serviceaccount:kube-system:isthmus,2\noperator,system:serviceaccount:kube-system:isthmus-operator,3\n',
      );
      await server.run();
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Starts kube-apiserver (again) and waits until it is ready. */
  async run(): Promise<void> {
    const directory = this.#directory;
    const child = this.#spawn('kube-apiserver', [
      `--etcd-servers=http://127.0.0.1:${this.#etcdPort}`,
      '--bind-address=127.0.0.1',
      `--secure-port=${this.#port}`,
      `--cert-dir=${directory}`,
      `--token-auth-file=${join(directory, 'tokens.csv')}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-key-file=${join(directory, 'sa.pub')}`,
      `--service-account-signing-key-file=${join(directory, 'sa.key')}`,
      '--service-cluster-ip-range=10.96.0.0/16',
      '--authorization-mode=RBAC',
      '--disable-admission-plugins=ServiceAccount',
      '--endpoint-reconciler-type=none',
      '--allow-privileged=true',
    ]);
    for (const deadline = Date.now() + 60_000; ; ) {
      if (child.exitCode !== null) throw new Error(`kube-apiserver ended: ${this.#log('kube-apiserver')}`);
      try {
        // It makes its namespaces one after another, once it listens.
        for (const name of ['kube-system', 'default'])
          await this.client('admin').request('GET', `/api/v1/namespaces/${name}`, { timeout: 2000 });
        return;
      } catch (error) {
        if (Date.now() > deadline) throw error;
      }
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  }

  /** A client as `admin` (everything allowed), `agent` or `operator` (what RBAC gives the service account). */
  client(user: 'admin' | 'agent' | 'operator', component = 'test'): KubeClient {
    const access: ClusterAccess = {
      server: new URL(`https://127.0.0.1:${this.#port}`),
      credentials: async () => ({ tls: this.#tls(), token: user }),
    };
    const client = new KubeClient(access, { component });
    this.#clients.push(client);
    return client;
  }

  /** A kubeconfig file of `admin` with one context, for programs that take no client of ours. */
  kubeconfig(context: string): string {
    const path = join(this.#directory, `${context}.kubeconfig`);
    const ca = Buffer.from(this.#tls().ca).toString('base64');
    const cluster = { server: `https://127.0.0.1:${this.#port}`, 'certificate-authority-data': ca };
    const text = JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': context,
      clusters: [{ name: context, cluster }],
      users: [{ name: context, user: { token: 'admin' } }],
      contexts: [{ name: context, context: { cluster: context, user: context } }],
    });
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  }

  /** Ends kube-apiserver; etcd keeps the state for the next `run`. */
  async stop(): Promise<void> {
    await end(this.#children.pop());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    for (const child of this.#children.reverse()) await end(child);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #tlsCache: { ca: string } | undefined;
  #tls(): { ca: string } {
    this.#tlsCache ??= {
      ca: readFileSync(join(this.#directory, 'apiserver.crt'), 'utf8'),
    };
    return this.#tlsCache;
  }

  #spawn(name: string, args: string[]): ChildProcess {
    const log = openSync(join(this.#directory, `${name}.log`), 'a');
    const child = spawn(findBinary(name) ?? name, args, {
      stdio: ['ignore', log, log],
      cwd: this.#directory,
    });
    this.#children.push(child);
    // A test that dies takes its servers with it.
    process.once('exit', () => child.kill('SIGKILL'));
    return child;
  }

  #log(name: string): string {
    return readFileSync(join(this.#directory, `${name}.log`), 'utf8').slice(-2000);
  }
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise(resolve => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

/** Resolves when `condition` holds, looking every few milliseconds; rejects with `what` after a while. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  within = 15_000,
): Promise<void> {
  for (const deadline = Date.now() + within; !(await condition()); ) {
    if (Date.now() > deadline) throw new Error(`not within ${within} ms: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 5));
  }
}
