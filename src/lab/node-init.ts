import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type CgroupLayout, cgroupFolders, isUnified } from './cgroup.ts';
import { nodeRoot } from './node-disk.ts';
import type { ClusterPlan, NodePlan } from './plan.ts';
import { type NodeService, nodeServices } from './services.ts';

/**
 * The script that becomes process 1 of a node. It mounts what a machine has, of the node's own, leaves this
 * machine's root behind, and keeps the node's services running until the node is killed.
 */
export function nodeInitScript(
  layout: CgroupLayout,
  cluster: ClusterPlan,
  node: NodePlan,
  binDirectory: string,
): string {
  const root = nodeRoot(node);
  return `#!/bin/bash
set -e
hostname ${node.name}
mount --make-rprivate /
mount --bind ${quote(root)} ${quote(root)}
cd ${quote(root)}
mount --bind /usr usr
mount -o remount,bind,ro usr
mount --bind ${quote(binDirectory)} usr/local/bin
mount -o remount,bind,ro usr/local/bin
${topFolders(root)}
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mkdir -p run/netns run/lock run/supervised
[ -e var/run ] || ln -s /run var/run
mount -t proc proc proc
mount -t sysfs sysfs sys
${cgroupMounts(layout)}
mount -t bpf bpf sys/fs/bpf
${node.mounts
  .map(({ hostPath, containerPath, readOnly }) => {
    const inside = quote(containerPath.slice(1));
    return `mkdir -p ${inside}; mount --rbind ${quote(hostPath)} ${inside}${readOnly ? `; mount -o remount,bind,ro ${inside}` : ''}\n`;
  })
  .join('')}
pivot_root . .
umount -l .
cd /
mount --make-rshared /
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
unset KUBECONFIG
set +e
# bash would write the whole command line of a service that is killed.
exec 2> /dev/null

declare -A running
start() {
  case $1 in
${nodeServices(cluster, node).map(startLine).join('\n')}
  esac
  running[$!]=$1
  echo $! > /run/supervised/$1.pid
}
for service in ${nodeServices(cluster, node)
    .map(({ name }) => name)
    .join(' ')}; do start $service; done
# A service that ends is started again, as any init does; children of containers end here too.
while :; do
  ended=
  wait -n -p ended
  code=$?
  name=\${running[$ended]}
  if [ -z "$name" ]; then sleep 0.2; continue; fi
  unset "running[$ended]"
  echo "$(date -u +%FT%T.%3NZ) $name ended with code $code, starting it again"
  sleep 0.5
  start $name
done
`;
}

/** The command line that starts a node: into its cgroup and network first, so that nothing escapes either. */
export function nodeStartCommand(
  layout: CgroupLayout,
  node: NodePlan,
  network: string,
  initScript: string,
): { readonly command: string; readonly args: readonly string[] } {
  const enter = cgroupFolders(layout, node.cgroup)
    .map(folder => `echo $$ > ${quote(folder)}/cgroup.procs`)
    .join(' && ');
  const supervisor = join(layout.v2, node.cgroup, 'init');
  // Where cgroup v2 is alone, a cgroup that has children with controllers may hold no process.
  const settle = isUnified(layout) ? `echo $$ > ${quote(supervisor)}/cgroup.procs && ` : '';
  const inner = `${settle}exec unshare --mount --uts --ipc --pid --fork --kill-child ${quote(initScript)}`;
  return {
    command: '/bin/bash',
    args: [
      '-c',
      `${enter} && exec nsenter --net=${quote(network)} unshare --cgroup /bin/bash -c ${quote(inner)}`,
    ],
  };
}

function startLine(service: NodeService): string {
  const command = service.command.map(quote).join(' ');
  const log = `/var/log/${service.name}.log`;
  // Waiting for the API server costs less than a process that fails and backs off.
  const wait =
    service.after === undefined ? '' : `for i in {1..300}; do ${service.after} && break; sleep 0.1; done; `;
  return `    ${service.name}) { ${wait}exec ${command}; } >> ${log} 2>&1 < /dev/null & ;;`;
}

/** /bin, /lib and the like: links on a merged-/usr system, folders of their own on others. */
function topFolders(root: string): string {
  const lines: string[] = [];
  for (const name of readdirSync('/')) {
    if (!/^(bin|sbin|lib\w*)$/.test(name)) continue;
    const inside = name;
    if (lstatSync(join('/', name)).isSymbolicLink()) {
      lines.push(`[ -e ${inside} ] || ln -s ${quote(readlinkSync(join('/', name)))} ${inside}`);
    } else {
      lines.push(`mkdir -p ${inside}; mount --bind /${name} ${inside}; mount -o remount,bind,ro ${inside}`);
    }
  }
  return lines.length === 0 ? `: # ${root}` : lines.join('\n');
}

/** Mounted afresh inside a cgroup namespace, every hierarchy shows the node's own part as its root. */
function cgroupMounts(layout: CgroupLayout): string {
  if (isUnified(layout)) return 'mount -t cgroup2 cgroup2 sys/fs/cgroup';
  const lines = ['mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup'];
  for (const { directory, mountOptions } of layout.v1) {
    const inside = `sys/fs/cgroup/${directory}`;
    lines.push(`mkdir -p ${inside}; mount -t cgroup -o ${quote(mountOptions)} cgroup ${inside}`);
    const parts = directory.split(',');
    if (parts.length > 1) for (const part of parts) lines.push(`ln -sfn ${directory} sys/fs/cgroup/${part}`);
  }
  const unified = `sys/fs/cgroup/${layout.v2.slice('/sys/fs/cgroup/'.length)}`;
  lines.push(`mkdir -p ${unified}; mount -t cgroup2 cgroup2 ${unified}`);
  return lines.join('\n');
}

/** One word of a shell command line. */
function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
