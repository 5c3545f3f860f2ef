/** Opus packets to mono samples, with libopus as WebAssembly: what is wrong with a packet stays in its sandbox. */
import type { OpusDecoder } from 'opus-decoder';
import { problem } from '../errors.js';
import type { AudioLevel, NativeAudio, OpusHead } from '../native/addon.js';

const RATE = 48000;

export class OpusFrames {
  #decoder: OpusDecoder | null = null;
  #link = -1;
  readonly #level: AudioLevel = { frames: 0, peak: 0, squares: 0 };

  constructor(
    private readonly audio: NativeAudio,
    private readonly name: string,
  ) {}

  /** At least `frames` samples at 48 kHz, each the mean of its channels; fewer only at the end. */
  async read({ frames }: { frames: number }, signal?: AbortSignal): Promise<AudioLevel & { samples: Float32Array }> {
    const parts: Float32Array[] = [];
    let length = 0;
    while (length < frames) {
      const packets = await this.audio.readPackets({ samples: RATE }, signal);
      if (packets.lengths.length === 0) break;
      if (packets.link !== this.#link) {
        await this.#open(packets.head);
        this.#link = packets.link;
      }
      const gain = 10 ** (packets.head.gain / 20);
      let at = 0;
      for (const [i, size] of packets.lengths.entries()) {
        const channels = this.#decode(packets.bytes.subarray(at, at + size), packets.to[i]!);
        at += size;
        const heard = channels.map((samples) => samples.subarray(packets.from[i], packets.to[i]));
        const mono = this.#mix(heard, gain);
        parts.push(mono);
        length += mono.length;
      }
    }
    const samples = new Float32Array(length);
    let at = 0;
    for (const part of parts) {
      samples.set(part, at);
      at += part.length;
    }
    return { ...this.#level, samples };
  }

  close(): void {
    this.#decoder?.free();
    this.#decoder = null;
    this.audio.close();
  }

  async #open(head: OpusHead): Promise<void> {
    // Loaded where it is needed: it takes a while, and most files are not Opus.
    const { OpusDecoder } = await import('opus-decoder');
    this.#decoder?.free();
    this.#decoder = null;
    const decoder = new OpusDecoder({
      channels: head.channels,
      streamCount: head.streams,
      coupledStreamCount: head.coupled,
      channelMappingTable: head.mapping,
      preSkip: 0, // the packets say themselves what is heard
    });
    await decoder.ready;
    this.#decoder = decoder;
  }

  /** One packet's channels. @throws VoiceGrpoError E_AUDIO if it does not decode to `needed` samples */
  #decode(packet: Uint8Array, needed: number): Float32Array[] {
    let got: string;
    try {
      const { channelData, samplesDecoded } = this.#decoder!.decodeFrame(packet);
      if (samplesDecoded >= needed) return channelData;
      got = `${samplesDecoded} samples of ${needed}`;
    } catch (error) {
      got = error instanceof Error ? error.message : String(error);
    }
    throw problem({
      code: 'E_AUDIO',
      where: this.name,
      expected: 'Opus packets that can be decoded',
      got: `a damaged one (${got})`,
      next: 'Make the file again from its source.',
    });
  }

  #mix(channels: Float32Array[], gain: number): Float32Array {
    const mono = new Float32Array(channels[0]?.length ?? 0);
    const level = this.#level;
    for (let i = 0; i < mono.length; i++) {
      let sum = 0;
      for (const samples of channels) {
        const sample = samples[i]! * gain;
        const size = Math.abs(sample);
        if (size > level.peak) level.peak = size;
        level.squares += sample * sample;
        sum += sample;
      }
      mono[i] = sum / channels.length;
    }
    level.frames += mono.length;
    return mono;
  }
}
