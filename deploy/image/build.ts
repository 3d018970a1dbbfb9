import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder } from '../../src/cache.ts';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import { packageRoot } from '../../src/package-root.ts';
import { buildBpf, buildCni } from '../build.ts';
import { bundle } from '../bundle.ts';
import { type Archive, type Entry, type Layer, writeArchive } from './archive.ts';
import { libraries, loadedLibrary } from './debian.ts';

const run = promisify(execFile);
const modules = join(packageRoot, 'node_modules');

/**
 * The one image of all daemons, for the lab and for registries alike. Its layers go from what rarely changes to our
 * own code, so that after a change of the code only the last layer, of a few hundred kilobytes, is new.
 *
 * Files: /usr/bin/node, /usr/bin/isthmus, /usr/local/bin/{etcd,etcdctl}, /isthmus/dist/<daemon>.mjs,
 * /isthmus/bpf/isthmus.bpf.o, /isthmus/cni/isthmus-cni. There is no shell in it.
 */
export async function buildImage(options: { readonly report: (line: string) => void }): Promise<Archive> {
  const { report } = options;
  const { etcd, etcdctl } = await ensureBinaries(['etcd', 'etcdctl'], { report });
  const javascript = await bundle();
  const node = await strippedNode();
  const cni = await buildCni();
  const bpf = await buildBpf();
  const version = await packageVersion();
  const image = {
    names: [`quay.io/isthmus/isthmus:${version}`],
    layers: [
      [...(await systemLayer()), executable('/usr/bin/node', node)],
      [executable('/usr/local/bin/etcd', etcd), executable('/usr/local/bin/etcdctl', etcdctl)],
      koffiLayer(),
      [
        ...(await scripts(javascript)),
        executable('/isthmus/cni/isthmus-cni', cni),
        copy('/isthmus/bpf/isthmus.bpf.o', bpf),
        text('/isthmus/package.json', `${JSON.stringify({ name: 'isthmus', version, type: 'module' })}\n`),
        { ...text('/isthmus/bin/isthmus', launcher), mode: 0o755 },
        { type: 'symlink', path: '/usr/bin/isthmus', target: '/isthmus/bin/isthmus' },
      ] satisfies Layer,
    ],
    settings: {
      command: ['/usr/bin/isthmus', '--help'],
      workingDirectory: '/',
      environment: { NODE_ENV: 'production' },
      labels: {
        'org.opencontainers.image.title': 'Isthmus',
        'org.opencontainers.image.version': version,
        'org.opencontainers.image.licenses': 'Apache-2.0',
      },
    },
  };
  return writeArchive([image], { folder: cacheFolder('images'), label: 'isthmus', level: 10 });
}

/** The kernel runs it by its first line: there is no shell to do so. */
const launcher = "#!/usr/bin/node\nawait import('/isthmus/dist/cli.mjs');\n";

/** What every program of the image needs of a system. */
async function systemLayer(): Promise<Layer> {
  return [
    ...unique([
      ...(await libraries([join(modules, 'node/bin/node'), nativeKoffi])),
      ...(await loadedLibrary('libbpf.so.1')),
    ]),
    text(
      '/etc/passwd',
      'root:x:0:0:root:/root:/sbin/nologin\nisthmus:x:65532:65532::/home/isthmus:/sbin/nologin\n',
    ),
    text('/etc/group', 'root:x:0:\nisthmus:x:65532:\n'),
    text('/etc/nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files dns\n'),
    { type: 'directory', path: '/tmp', mode: 0o1777 },
    ...['dev', 'proc', 'sys', 'run', 'root', 'var'].map((path): Entry => ({ type: 'directory', path })),
    { type: 'symlink', path: '/var/run', target: '/run' },
  ];
}

const nativeKoffi = join(modules, '@koromix/koffi-linux-x64/linux_x64/koffi.node');

/** The foreign function interface and, of its native modules, the one of this platform. */
function koffiLayer(): Layer {
  const files = {
    koffi: ['package.json', 'index.js', 'src/koffi/index.js', 'src/koffi/src/static.js'],
    '@koromix/koffi-linux-x64': ['package.json', 'index.js', 'linux_x64/koffi.node'],
  };
  return Object.entries(files).flatMap(([name, paths]) =>
    paths.map(path => copy(`/isthmus/node_modules/${name}/${path}`, join(modules, name, path))),
  );
}

async function scripts(folder: string): Promise<Layer> {
  return (await readdir(folder)).map(name => copy(`/isthmus/dist/${name}`, join(folder, name)));
}

/** Node without the symbols of its static functions: 30 MB less, and addons still find what they link to. */
async function strippedNode(): Promise<string> {
  const original = join(modules, 'node/bin/node');
  const { size, mtimeMs } = await stat(original);
  const folder = cacheFolder('build', `node-${process.versions.node}-${size}-${Math.trunc(mtimeMs)}`);
  const stripped = join(folder, 'node');
  if (existsSync(stripped)) return stripped;
  await mkdir(folder, { recursive: true });
  await run('strip', ['-o', `${stripped}.${process.pid}`, original]);
  await rename(`${stripped}.${process.pid}`, stripped);
  return stripped;
}

async function packageVersion(): Promise<string> {
  const manifest: unknown = JSON.parse(await readFile(join(packageRoot, 'package.json'), 'utf8'));
  if (typeof manifest === 'object' && manifest !== null && 'version' in manifest)
    return String(manifest.version);
  throw new Error(`${packageRoot}/package.json: expected a version`);
}

const executable = (path: string, file: string): Entry => ({ ...copy(path, file), mode: 0o755 });
const copy = (path: string, file: string) => ({ type: 'file' as const, path, content: { file } });
const text = (path: string, content: string) => ({ type: 'file' as const, path, content });

function unique(entries: Layer): Layer {
  return [...new Map(entries.map(entry => [entry.path, entry])).values()];
}

if (import.meta.main) {
  const report = (line: string): void => console.error(line);
  try {
    const { path, images, written } = await buildImage({ report });
    for (const { names, digest, size } of images) {
      report(`${names.join(' ')} ${digest} ${(size / 1e6).toFixed(1)} MB${written ? '' : ' (unchanged)'}`);
    }
    console.log(path);
  } catch (error) {
    report(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
}
