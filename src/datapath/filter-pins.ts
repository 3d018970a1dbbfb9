import { mkdirSync } from 'node:fs';
import * as libbpf from './libbpf.ts';
import { listPins, pinPath, removePin } from './link-pins.ts';
import { Netlink } from './netlink.ts';
import { type Direction, filterName, removeFilter, replaceFilter, replaceFilterLater } from './tc-filter.ts';

/** A program on a device, and the name it is kept under. */
export interface FilterAttachment {
  readonly program: number;
  readonly ifindex: number;
  readonly direction: Direction;
  readonly name: string;
}

/**
 * Filters of traffic control do with a device what tcx links do, on kernels without tcx (before Linux 6.6). Such a
 * filter lives without a pin; what remembers it is the program, pinned as `NAME@IFINDEX-DIRECTION`.
 */
export class FilterPins implements Disposable {
  readonly #folder: string;
  readonly #netlink = new Netlink();
  /** For requests on another thread, one after the other: the kernel takes one at a time anyway. */
  #later: Netlink | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  /** For devices of the network namespace that this thread is in now. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Attaches, or exchanges the program that is there; one of the same name elsewhere goes. */
  attach(at: FilterAttachment): void {
    replaceFilter(this.#netlink, filterOf(at));
    this.#keep(at);
  }

  /** `attach` to a device that has just been made, without holding up the process. */
  attachNew(at: FilterAttachment): Promise<void> {
    this.#later ??= new Netlink();
    const netlink = this.#later;
    const done = this.#queue.then(() => replaceFilterLater(netlink, filterOf(at)));
    this.#queue = done.catch(() => undefined);
    return done.then(() => this.#keep(at));
  }

  /** Detaches what is kept under a name. Nothing happens where there is none. */
  detach(name: string): void {
    for (const pin of pinsOf(this.#folder)) if (pin.name === name) this.#remove(pin);
  }

  /** Detaches everything that is kept. */
  detachAll(): void {
    for (const pin of pinsOf(this.#folder)) this.#remove(pin);
  }

  [Symbol.dispose](): void {
    this.#netlink[Symbol.dispose]();
    void this.#queue.then(() => this.#later?.[Symbol.dispose]());
  }

  /** Pins the program under the place it is at now; another place of the name is left. */
  #keep(at: FilterAttachment): void {
    const file = `${at.name}@${at.ifindex}-${at.direction}`;
    const path = pinPath(this.#folder, file);
    for (const pin of pinsOf(this.#folder))
      if (pin.file === file) removePin(path);
      else if (pin.name === at.name) this.#remove(pin);
    mkdirSync(this.#folder, { recursive: true });
    libbpf.check(libbpf.pin(at.program, path), `pin ${path}`);
  }

  /** A device index may be another's by now: only a filter of this name is ours. */
  #remove(pin: Pin): void {
    if (filterName(this.#netlink, pin) === kernelName(pin.name)) removeFilter(this.#netlink, pin);
    removePin(pinPath(this.#folder, pin.file));
  }
}

/** Names of what is kept in a folder. */
export const filterNames = (folder: string): string[] => pinsOf(folder).map(pin => pin.name);

interface Pin {
  readonly file: string;
  readonly name: string;
  readonly ifindex: number;
  readonly direction: Direction;
}

function pinsOf(folder: string): Pin[] {
  return listPins(folder).flatMap(file => {
    const [, name, ifindex, direction] = /^(.+)@(\d+)-(ingress|egress)$/.exec(file) ?? [];
    if (name === undefined || (direction !== 'ingress' && direction !== 'egress')) return [];
    return [{ file, name, ifindex: Number(ifindex), direction }];
  });
}

const kernelName = (name: string): string => `isthmus_${name}`;

const filterOf = ({ program, ifindex, direction, name }: FilterAttachment) => ({
  program,
  ifindex,
  direction,
  name: kernelName(name),
});
