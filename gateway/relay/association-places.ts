import { once } from '../runtime/once.js';

/** Associations at once of one gateway: those of its own clients, and those that others have through its devices. */
export class AssociationPlaces {
  #taken = 0;

  /** `max`: at it there is no place until one is given back. */
  constructor(private readonly max: number) {}

  get isFull(): boolean {
    return this.#taken >= this.max;
  }

  /** Takes a place; what is returned gives it back, once. null: none is free. */
  take(): (() => void) | null {
    if (this.isFull) return null;
    this.#taken++;
    return once(() => {
      this.#taken--;
    });
  }
}
