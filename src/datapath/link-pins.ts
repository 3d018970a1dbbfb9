import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as libbpf from './libbpf.ts';
import { close } from './libc.ts';

/** Kinds of attachment, by the kernel's enum bpf_attach_type. */
export const ATTACH = {
  sock4_bind: 8,
  sock6_bind: 9,
  sock4_connect: 10,
  sock6_connect: 11,
  sock4_sendmsg: 14,
  sock6_sendmsg: 15,
  sock4_recvmsg: 19,
  sock6_recvmsg: 20,
  sock4_getpeername: 29,
  sock6_getpeername: 30,
  ingress: 46,
  egress: 47,
} as const;

const LINK_TYPE_CGROUP = 3;
const LINK_TYPE_TCX = 11;
const NO_DEVICE = 0x7fff_ffff;
const ENODEV = 19;

interface Attachment {
  readonly program: number;
  readonly type: number;
  readonly pin: string;
}

/**
 * True where the kernel attaches programs to devices by tcx (Linux 6.6): it looks for the device, which does not
 * exist. Others refuse the kind of attachment itself.
 */
export function hasTcx(program: number): boolean {
  const result = libbpf.linkCreate(program, NO_DEVICE, ATTACH.ingress, null);
  return result === -ENODEV;
}

/** Attaches to a device, or exchanges the program of the link that is pinned there already. */
export function attachDevice(at: Attachment & { readonly ifindex: number }): void {
  adoptOrCreate(at, at.ifindex, `device ${at.ifindex}`, info => {
    const view = new DataView(info.buffer);
    return (
      view.getUint32(0, true) === LINK_TYPE_TCX &&
      view.getUint32(16, true) === at.ifindex &&
      view.getUint32(20, true) === at.type
    );
  });
}

/** Attaches to a device that has just been made, without holding up the process; a dead link's pin is replaced. */
export async function attachNewDevice(at: Attachment & { readonly ifindex: number }): Promise<void> {
  removePin(at.pin);
  const link = libbpf.check(
    await libbpf.linkCreateLater(at.program, at.ifindex, at.type),
    `attach to device ${at.ifindex}`,
  );
  keep(link, at.pin);
}

/** `attachDevice` for a cgroup of the unified hierarchy. */
export function attachCgroup(at: Attachment & { readonly path: string }): void {
  const folder = openSync(at.path, 'r');
  try {
    // A cgroup's ID is the inode number of its folder.
    const id = statSync(at.path, { bigint: true }).ino;
    adoptOrCreate(at, folder, `cgroup ${at.path}`, info => {
      const view = new DataView(info.buffer);
      return (
        view.getUint32(0, true) === LINK_TYPE_CGROUP &&
        view.getBigUint64(16, true) === id &&
        view.getUint32(24, true) === at.type
      );
    });
  } finally {
    closeSync(folder);
  }
}

/** Names of the pins of a folder. */
export function listPins(folder: string): string[] {
  try {
    return readdirSync(folder).map(decodePinName).sort();
  } catch {
    return [];
  }
}

/**
 * The path of a pin. bpffs refuses a name with a dot, which the name of a device may have (eth0.5, a VLAN): it is
 * written %2e, and the percent sign itself %25.
 */
export const pinPath = (folder: string, name: string): string =>
  join(
    folder,
    name.replace(/[%.]/g, sign => (sign === '.' ? '%2e' : '%25')),
  );

const decodePinName = (file: string): string =>
  file.replace(/%(2e|25)/g, (_, code: string) => (code === '2e' ? '.' : '%'));

/** Unpins; the kernel detaches when nothing else holds the link. */
export const removePin = (path: string): void => rmSync(path, { force: true });

/**
 * A pinned link goes on filtering while its program is exchanged (BPF_LINK_UPDATE), so there is no
 * instant without one. A link whose device or cgroup is gone, or is another, is replaced.
 */
function adoptOrCreate(
  { program, type, pin }: Attachment,
  target: number,
  where: string,
  same: (info: Uint8Array<ArrayBuffer>) => boolean,
): void {
  const present = libbpf.openPin(pin);
  if (present >= 0) {
    const adopted = same(infoOf(present)) && libbpf.linkUpdate(present, program, null) === 0;
    close(present);
    if (adopted) return;
    removePin(pin);
  }
  keep(libbpf.check(libbpf.linkCreate(program, target, type, null), `attach to ${where}`), pin);
}

/** Pins a link, which then lives without this process. */
function keep(link: number, pin: string): void {
  try {
    mkdirSync(join(pin, '..'), { recursive: true });
    libbpf.check(libbpf.pin(link, pin), `pin ${pin}`);
  } finally {
    close(link);
  }
}

function infoOf(fd: number): Uint8Array<ArrayBuffer> {
  const info = new Uint8Array(128);
  libbpf.check(libbpf.infoByFd(fd, info, new Uint32Array([info.length])), 'link info');
  return info;
}
