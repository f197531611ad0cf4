// Plays a short tone on "wk:ring", where the browser lets a page make a sound.

const HERTZ = 660;
const SECONDS = 0.6;
const LOUD = 0.2;

function ring() {
  const audio = new AudioContext();
  if (audio.state !== "running") {
    audio.close(); // nobody has touched this page yet
    return;
  }
  const tone = audio.createOscillator();
  const volume = audio.createGain();
  const now = audio.currentTime;
  tone.frequency.value = HERTZ;
  volume.gain.setValueAtTime(LOUD, now);
  volume.gain.exponentialRampToValueAtTime(LOUD / 100, now + SECONDS);
  tone.connect(volume).connect(audio.destination);
  tone.onended = () => audio.close();
  tone.start();
  tone.stop(now + SECONDS);
}

document.addEventListener("wk:ring", ring);
