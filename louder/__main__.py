from louder.cli import main

main()
