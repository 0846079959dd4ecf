/** A 16-bit radiograph on a canvas: window and level, zoom and pan; on the screen, lengths are CSS pixels. */

const LEVELS = 65536;
const MOST_ZOOM = 16;
const KEPT_IN_VIEW = 40;

/** A film in a box that holds a canvas; `onDraw` is called after each drawing. */
export class Film {
  constructor(box, canvas, onDraw) {
    Object.assign(this, { box, canvas, onDraw });
    this.picture = document.createElement("canvas");
    this.zoom = 1;
    this.x = this.y = 0;
    this.inverted = false;
    this.fitted = true;
    new ResizeObserver(() => (this.fitted ? this.fit() : this.draw())).observe(box);
  }

  /** Show pixels: `levels` row by row, `width`, `height`, and the first window `low` to `high`. */
  show(pixels) {
    this.pixels = pixels;
    this.picture.width = pixels.width;
    this.picture.height = pixels.height;
    this.canvas.hidden = false;
    this.resetWindow();
    this.fit();
  }

  /** Take the first window again. */
  resetWindow() {
    const { low, high } = this.pixels;
    this.setWindow((low + high) / 2, Math.max(1, high - low));
  }

  /** Set the window by its middle and width, both on the pixels' scale. */
  setWindow(level, width) {
    this.level = Math.min(LEVELS - 1, Math.max(0, level));
    this.width = Math.min(LEVELS, Math.max(LEVELS / 256, width));
    this.stale = true;
    this.draw();
  }

  /** Turn black into white, or back. */
  invert() {
    this.inverted = !this.inverted;
    this.stale = true;
    this.draw();
  }

  /** Show the whole picture in the middle of the box. */
  fit() {
    if (!this.pixels) return;
    const { width, height } = this.pixels;
    this.zoom = this.fitZoom();
    this.x = (this.box.clientWidth - width * this.zoom) / 2;
    this.y = (this.box.clientHeight - height * this.zoom) / 2;
    this.fitted = true;
    this.draw();
  }

  fitZoom() {
    const { width, height } = this.pixels;
    return Math.max(1e-3, Math.min(this.box.clientWidth / width, this.box.clientHeight / height));
  }

  /** Zoom by a factor about a point of the box, by default its middle. */
  zoomBy(factor, x = this.box.clientWidth / 2, y = this.box.clientHeight / 2) {
    const zoom = Math.min(MOST_ZOOM, Math.max(this.fitZoom() / 2, this.zoom * factor));
    this.x = x - ((x - this.x) * zoom) / this.zoom;
    this.y = y - ((y - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.moveBy(0, 0);
  }

  /** Move the picture, but never wholly out of the box. */
  moveBy(dx, dy) {
    const { width, height } = this.pixels;
    const kept = (value, size, room) =>
      Math.min(room - KEPT_IN_VIEW, Math.max(KEPT_IN_VIEW - size * this.zoom, value));
    this.x = kept(this.x + dx, width, this.box.clientWidth);
    this.y = kept(this.y + dy, height, this.box.clientHeight);
    this.fitted = false;
    this.draw();
  }

  /** Return where a point of the picture lies in the box. */
  place(x, y) {
    return [this.x + x * this.zoom, this.y + y * this.zoom];
  }

  /** Draw at the browser's next frame. */
  draw() {
    if (!this.pixels || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
      this.onDraw();
    });
  }

  paint() {
    if (this.stale) this.develop();
    const density = window.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.box;
    const [wide, high] = [clientWidth, clientHeight].map((size) => Math.round(size * density));
    if (this.canvas.width !== wide) this.canvas.width = wide;
    if (this.canvas.height !== high) this.canvas.height = high;
    const context = this.canvas.getContext("2d", { alpha: false });
    context.setTransform(density, 0, 0, density, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, clientWidth, clientHeight);
    context.imageSmoothingQuality = "high";
    const { width, height } = this.pixels;
    context.drawImage(this.picture, this.x, this.y, width * this.zoom, height * this.zoom);
  }

  /** Turn the 16-bit levels into grey by the window. */
  develop() {
    const { levels, width, height } = this.pixels;
    const low = this.level - this.width / 2;
    const table = new Uint32Array(LEVELS);
    for (let level = 0; level < LEVELS; level += 1) {
      const share = Math.min(1, Math.max(0, (level - low) / this.width));
      const grey = Math.round(255 * (this.inverted ? 1 - share : share));
      // Little-endian, as on every machine that runs a browser today: alpha, blue, green, red.
      table[level] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    const image = new ImageData(width, height);
    const grey = new Uint32Array(image.data.buffer);
    for (let place = 0; place < levels.length; place += 1) grey[place] = table[levels[place]];
    this.picture.getContext("2d").putImageData(image, 0, 0);
    this.stale = false;
  }
}
