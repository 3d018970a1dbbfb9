/**
 * Cilium as one image, made on this machine from its Go module and Debian's programs: the agent with what its pods
 * run (clang compiles its BPF programs on the node), the operator, clustermesh-apiserver and Hubble Relay. Its
 * chart and BPF sources come from the same module, so that everything is one release. A peer for tests and
 * benchmarks; nothing of it goes into our image.
 */
import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import * as z from 'zod';
import { type Entry, type Layer, writeArchive } from '../../deploy/image/archive.ts';
import { libraries, packageFolder, programs } from '../../deploy/image/debian.ts';
import { cacheFolder } from '../../src/cache.ts';
import { ensureBinaries, type Report } from '../../src/lab/binaries.ts';
import { packageRoot } from '../../src/package-root.ts';

const run = promisify(execFile);

export interface CiliumRelease {
  /** As `1.15.19`. */
  readonly version: string;
  /** Reference of the image, which all its daemons are in. */
  readonly image: string;
  /** The image as an archive. */
  readonly archive: string;
  /** Folder of its Helm chart. */
  readonly chart: string;
}

/** Builds the pinned release, or finds it in the cache. The first time takes minutes. */
export async function ciliumRelease(report: Report): Promise<CiliumRelease> {
  const binaries = await ensureBinaries(
    [
      'cilium-agent',
      'cilium-dbg',
      'cilium-cni',
      'cilium-mount',
      'cilium-sysctlfix',
      'cilium-operator',
      'cilium-clustermesh-apiserver',
      'hubble-relay',
      'etcd',
      'loopback',
    ],
    { report },
  );
  const { folder, version } = await moduleFolder();
  const image = `quay.io/isthmus/peer-cilium:${version}`;
  const { path } = await writeArchive(
    [
      {
        names: [image],
        layers: [
          await toolsLayer(),
          await compilerLayer(),
          await sourcesLayer(folder),
          [
            executable('/usr/bin/cilium-agent', binaries['cilium-agent']),
            executable('/usr/bin/cilium-dbg', binaries['cilium-dbg']),
            { type: 'symlink', path: '/usr/bin/cilium', target: 'cilium-dbg' },
            executable('/usr/bin/cilium-mount', binaries['cilium-mount']),
            executable('/usr/bin/cilium-sysctlfix', binaries['cilium-sysctlfix']),
            executable('/opt/cni/bin/cilium-cni', binaries['cilium-cni']),
            executable('/cni/loopback', binaries.loopback),
            executable('/usr/bin/cilium-operator-generic', binaries['cilium-operator']),
            executable('/usr/bin/clustermesh-apiserver', binaries['cilium-clustermesh-apiserver']),
            executable('/usr/bin/hubble-relay', binaries['hubble-relay']),
            executable('/usr/bin/etcd', binaries.etcd),
          ],
        ],
        settings: {
          command: ['/usr/bin/cilium-dbg'],
          workingDirectory: '/',
          // Daemons that are not root write there which port their debugger has.
          environment: { GOPS_CONFIG_DIR: '/tmp/gops' },
        },
      },
    ],
    { folder: cacheFolder('images'), label: 'cilium' },
  );
  return { version, image, archive: path, chart: join(folder, 'install/kubernetes/cilium') };
}

/** The pinned release, as `1.15.19`. */
export async function ciliumVersion(): Promise<string> {
  return (await moduleFolder()).version;
}

const moduleInfo = z.object({ Dir: z.string(), Version: z.string() });

/** Where the Go command keeps the module's files, fetched if need be. */
async function moduleFolder(): Promise<{ folder: string; version: string }> {
  const cwd = join(packageRoot, 'deploy/kubernetes/cilium');
  const { stdout } = await run('go', ['mod', 'download', '-json', 'github.com/cilium/cilium'], {
    cwd,
    env: { ...process.env, GOWORK: 'off' },
  });
  const { Dir, Version } = moduleInfo.parse(JSON.parse(stdout));
  return { folder: Dir, version: Version.slice(1) };
}

/** What the scripts of its pods and the agent itself run. */
async function toolsLayer(): Promise<Layer> {
  const iptables = await packageFolder('iptables', { probe: '/usr/sbin/xtables-nft-multi' });
  const multi = join(iptables, 'usr/sbin/xtables-nft-multi');
  const families = ['iptables', 'ip6tables'].flatMap(name =>
    ['', '-save', '-restore'].map(end => name + end),
  );
  const extensions = join(iptables, 'usr/lib/x86_64-linux-gnu/xtables');
  const used = [
    'bash',
    'cat',
    'cp',
    'mv',
    'rm',
    'mkdir',
    'basename',
    'find',
    'grep',
    'sleep',
    'nsenter',
    'mount',
  ];
  return [
    ...unique([
      ...(await programs([
        ...used.map(name => `/usr/bin/${name}`),
        { from: '/usr/sbin/ip', to: '/usr/sbin/ip' },
        { from: '/usr/sbin/tc', to: '/usr/sbin/tc' },
        { from: '/usr/sbin/bpftool', to: '/usr/sbin/bpftool' },
        { from: multi, to: '/usr/sbin/xtables-nft-multi' },
      ])),
      ...(await libraries([multi])),
    ]),
    ...families.map(
      (name): Entry => ({ type: 'symlink', path: `/usr/sbin/${name}`, target: 'xtables-nft-multi' }),
    ),
    ...(await readdir(extensions))
      .filter(name => name.endsWith('.so'))
      .map(name => copy(`/usr/lib/x86_64-linux-gnu/xtables/${name}`, join(extensions, name))),
    { type: 'symlink', path: '/usr/bin/sh', target: 'bash' },
    { type: 'symlink', path: '/bin', target: 'usr/bin' },
    { type: 'symlink', path: '/sbin', target: 'usr/sbin' },
    { type: 'file', path: '/etc/passwd', content: 'root:x:0:0:root:/root:/bin/sh\n' },
    { type: 'file', path: '/etc/group', content: 'root:x:0:\n' },
    { type: 'file', path: '/etc/nsswitch.conf', content: 'hosts: files dns\n' },
    { type: 'directory', path: '/tmp', mode: 0o1777 },
    ...['dev', 'proc', 'sys', 'root', 'run', 'var'].map((path): Entry => ({ type: 'directory', path })),
    { type: 'symlink', path: '/var/run', target: '/run' },
  ];
}

const clangFolder = '/usr/lib/llvm-19';

async function compilerLayer(): Promise<Layer> {
  const clang = await programs([{ from: `${clangFolder}/bin/clang`, to: `${clangFolder}/bin/clang` }]);
  return [...clang, { type: 'symlink', path: '/usr/bin/clang', target: `${clangFolder}/bin/clang` }];
}

async function sourcesLayer(folder: string): Promise<Layer> {
  const bpf = await readdir(join(folder, 'bpf'), { recursive: true, withFileTypes: true });
  const sources = bpf
    .filter(each => each.isFile() && !/\/bpf\/(tests|complexity-tests)(\/|$)/.test(each.parentPath))
    .map(each => join(each.parentPath, each.name))
    .map(path => copy(`/var/lib/cilium${path.slice(folder.length)}`, path));
  const scripts = [
    'images/cilium/init-container.sh',
    'plugins/cilium-cni/install-plugin.sh',
    'plugins/cilium-cni/cni-uninstall.sh',
  ].map(path => executable(`/${basename(path)}`, join(folder, path)));
  return [
    ...sources,
    ...scripts,
    copy('/var/lib/cilium/etcd-config.yaml', join(folder, 'clustermesh-apiserver/etcd-config.yaml')),
  ];
}

const executable = (path: string, file: string): Entry => ({ ...copy(path, file), mode: 0o755 });
const copy = (path: string, file: string) => ({ type: 'file' as const, path, content: { file } });

function unique(entries: Layer): Layer {
  return [...new Map(entries.map(entry => [entry.path, entry])).values()];
}
