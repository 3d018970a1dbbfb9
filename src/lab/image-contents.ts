import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { buildPause } from '../../deploy/build.ts';
import type { Entry, Image, Layer, Settings } from '../../deploy/image/archive.ts';
import { libraries, packageFolder, programs } from '../../deploy/image/debian.ts';

const run = promisify(execFile);

/** This file's path: what it says is part of what the images are made of. */
export const source: string = import.meta.filename;

/**
 * The lab's images. Differences from the published ones, all owed to their being made from Debian 12: the C library
 * is glibc; `wget` is GNU's behind a script, because that of Debian's busybox crashes when a time-out is given; nginx
 * is 1.22 under every tag.
 */
export async function labImages(binaries: {
  readonly agnhost: string;
  readonly coredns: string;
}): Promise<Image[]> {
  const { userland, shell, networkTools, nginx } = await labLayers();
  return [
    {
      names: ['registry.k8s.io/pause:3.10', 'registry.k8s.io/pause:3.10.1'],
      layers: [[executable('/pause', await buildPause())]],
      settings: { entrypoint: ['/pause'], user: '65535:65535' },
    },
    {
      names: tags('docker.io/library/busybox', ['latest', 'stable', '1', '1.28', '1.36', '1.36.1', '1.37']),
      layers: userland,
      settings: { command: ['sh'] },
    },
    {
      names: tags('docker.io/library/nginx', nginxTags),
      layers: [...userland, shell, nginx],
      settings: nginxSettings,
    },
    {
      names: tags('registry.k8s.io/e2e-test-images/agnhost', [
        '2.57',
        '2.56',
        '2.53',
        '2.47',
        '2.45',
        '2.39',
      ]),
      layers: [...userland, shell, networkTools, agnhostLayer(binaries.agnhost)],
      settings: { entrypoint: ['/agnhost'], command: ['pause'] },
    },
    {
      names: ['registry.k8s.io/coredns/coredns:v1.13.1', 'registry.k8s.io/coredns/coredns:v1.12.1'],
      layers: [corednsLayer(binaries.coredns)],
      settings: { entrypoint: ['/coredns'], ports: ['53/tcp', '53/udp'] },
    },
  ];
}

/** What images of the lab are made of, and those that the conformance run adds. */
export interface LabLayers {
  /** busybox, with GNU's wget. */
  readonly userland: readonly Layer[];
  readonly shell: Layer;
  /** dig, ss, ip, nc and the like; bash behind sh. */
  readonly networkTools: Layer;
  readonly nginx: Layer;
}

export async function labLayers(): Promise<LabLayers> {
  const busybox = await busyboxLayer();
  const wget = await programs([{ from: '/usr/bin/wget', to: '/usr/libexec/wget' }]);
  // Without this GNU wget asks twenty times, and a failing probe in a loop looks like one that hangs.
  const wgetOnce: Entry = { type: 'file', path: '/etc/wgetrc', content: 'tries = 1\n' };
  return {
    userland: [busybox, [...wget, wgetOnce, ...overBusybox([wgetByAddress])]],
    shell: overBusybox(await programs(['/usr/bin/bash', '/usr/bin/curl'])),
    networkTools: await networkToolsLayer(),
    nginx: await nginxLayer(),
  };
}

/** busybox's wget takes an IPv6 address as it is for a host, as Kubernetes' tests write it; GNU's wants brackets. */
const wgetByAddress: Entry = {
  type: 'file',
  path: '/usr/bin/wget',
  mode: 0o755,
  content: `#!/bin/sh
for argument; do
  shift
  case $argument in
    *[!0-9a-fA-F:]*) ;;
    *:*:*) argument="http://[$argument]/" ;;
  esac
  set -- "$@" "$argument"
done
exec /usr/libexec/wget "$@"
`,
};

export const nginxSettings: Settings = {
  command: ['nginx', '-g', 'daemon off;'],
  ports: ['80/tcp'],
  stopSignal: 'SIGQUIT',
};

/** Those that tutorials use. */
const nginxTags = [
  'latest',
  'stable',
  'mainline',
  'alpine',
  '1',
  '1.14.2',
  '1.16.1',
  '1.25',
  '1.26',
  '1.27',
  '1.28',
  '1.29',
];

const tags = (repository: string, all: readonly string[]): string[] => all.map(tag => `${repository}:${tag}`);

export const executable = (path: string, file: string): Entry => ({
  type: 'file',
  path,
  mode: 0o755,
  content: { file },
});

const users = [
  'root:x:0:0:root:/root:/bin/sh',
  'nginx:x:101:101:nginx:/nonexistent:/bin/false',
  'nobody:x:65534:65534:nobody:/nonexistent:/bin/false',
];
const groups = ['root:x:0:', 'nginx:x:101:', 'nogroup:x:65534:'];

async function busyboxLayer(): Promise<Layer> {
  // Not the static flavour: its shell prefers its own applets to the programs in PATH, and it knows no search domains.
  const folder = await packageFolder('busybox', { probe: '/bin/busybox' });
  const busybox = ['bin/busybox', 'usr/bin/busybox']
    .map(path => join(folder, path))
    .find(path => existsSync(path));
  if (busybox === undefined) throw new Error(`no busybox in ${folder}`);
  const { stdout } = await run(busybox, ['--list']);
  const applets = stdout.split('\n').filter(applet => applet !== '' && applet !== 'busybox');
  return [
    ...(await programs([{ from: busybox, to: '/bin/busybox' }])),
    ...applets.map((applet): Entry => ({ type: 'symlink', path: `/bin/${applet}`, target: 'busybox' })),
    { type: 'symlink', path: '/usr/bin/env', target: '/bin/env' },
    { type: 'file', path: '/etc/passwd', content: `${users.join('\n')}\n` },
    { type: 'file', path: '/etc/group', content: `${groups.join('\n')}\n` },
    { type: 'file', path: '/etc/nsswitch.conf', content: 'passwd: files\ngroup: files\nhosts: files dns\n' },
    ...['dev', 'proc', 'sys', 'root', 'run', 'home', 'usr/sbin', 'usr/local/bin', 'var/log'].map(directory),
    { type: 'symlink', path: '/var/run', target: '/run' },
    { type: 'directory', path: '/tmp', mode: 0o1777 },
    { type: 'directory', path: '/var/tmp', mode: 0o1777 },
  ];
}

const directory = (path: string): Entry => ({ type: 'directory', path });

/** Programs of /usr/bin and /usr/sbin also take the place of busybox's applet of that name, whatever PATH is. */
function overBusybox(layer: Layer): Layer {
  const links = layer.flatMap((entry): Entry[] => {
    const name = /^\/usr\/s?bin\/([^/]+)$/.exec(entry.path)?.[1];
    return name === undefined ? [] : [{ type: 'symlink', path: `/bin/${name}`, target: entry.path }];
  });
  return [...layer, ...links];
}

async function networkToolsLayer(): Promise<Layer> {
  const paths = ['dig', 'nslookup', 'host', 'ss', 'ip', 'ping', 'iperf3', 'getent'].map(name =>
    onThisMachine(name),
  );
  const netcat = { from: onThisMachine('nc.openbsd'), to: '/usr/bin/nc' };
  const layer = overBusybox(await programs([...paths, netcat]));
  // Scripts written for the published image expect bash behind sh.
  return [...layer, { type: 'symlink', path: '/bin/sh', target: '/usr/bin/bash' }];
}

function onThisMachine(name: string): string {
  const folders = ['/usr/bin', '/usr/sbin', '/bin', '/sbin'];
  const path = folders.map(folder => join(folder, name)).find(candidate => existsSync(candidate));
  if (path === undefined)
    throw new Error(`'${name}' is not installed: run bin/with-tools once, it installs what is missing`);
  return path;
}

export const corednsLayer = (coredns: string): Layer => [executable('/coredns', coredns)];

export const agnhostLayer = (agnhost: string): Layer => [
  executable('/agnhost', agnhost),
  { type: 'symlink', path: '/agnhost-2', target: '/agnhost' },
  { type: 'directory', path: '/uploads', mode: 0o777 },
];

async function nginxLayer(): Promise<Layer> {
  const [server, common] = await Promise.all([
    packageFolder('nginx', { probe: '/usr/sbin/nginx' }),
    packageFolder('nginx-common', { probe: '/etc/nginx/mime.types' }),
  ]);
  const nginx = join(server, 'usr/sbin/nginx');
  const pages = join(common, 'usr/share/nginx/html');
  const page = existsSync(join(pages, 'index.html')) ? 'index.html' : 'index.nginx-debian.html';
  return [
    executable('/usr/sbin/nginx', nginx),
    ...(await libraries([nginx])),
    { type: 'file', path: '/usr/share/nginx/html/index.html', content: { file: join(pages, page) } },
    { type: 'file', path: '/etc/nginx/mime.types', content: { file: join(common, 'etc/nginx/mime.types') } },
    {
      type: 'file',
      path: '/etc/nginx/fastcgi_params',
      content: { file: join(common, 'etc/nginx/fastcgi_params') },
    },
    { type: 'file', path: '/etc/nginx/nginx.conf', content: nginxConfiguration },
    { type: 'file', path: '/etc/nginx/conf.d/default.conf', content: nginxSite },
    { type: 'symlink', path: '/var/log/nginx/access.log', target: '/dev/stdout' },
    { type: 'symlink', path: '/var/log/nginx/error.log', target: '/dev/stderr' },
    { type: 'directory', path: '/var/lib/nginx' },
    { type: 'directory', path: '/var/cache/nginx', uid: 101 },
  ];
}

const nginxConfiguration = `user nginx;
worker_processes auto;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log notice;

events {
    worker_connections 1024;
}

http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log combined;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
`;

const nginxSite = `server {
    listen 80;
    listen [::]:80;
    server_name localhost;

    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
}
`;
